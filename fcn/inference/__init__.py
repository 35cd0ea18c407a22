"""Run a trained net on images of any size."""
