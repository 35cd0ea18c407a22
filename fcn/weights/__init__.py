"""Model files, and strict loading of weights."""
