"""Readers of untrusted input: archives, HTTP, images, MATLAB files, Caffe models."""
