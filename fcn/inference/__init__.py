"""A trained net on images of any size."""
