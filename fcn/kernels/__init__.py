"""Faster, exact ways to compute what the nets need: the zero border, fc6 and fc7, resizing of logits in strips."""
