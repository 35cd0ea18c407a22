"""Readers for every byte that comes from outside: archives, HTTP, images, MATLAB files, Caffe models."""
