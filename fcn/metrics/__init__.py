"""Confusion counts and the paper's four scores."""
