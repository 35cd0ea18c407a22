"""Weights trained by others: ImageNet backbones, published nets, imported files."""
