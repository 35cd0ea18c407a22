"""Labels, the packed split, sampling and tiles."""
