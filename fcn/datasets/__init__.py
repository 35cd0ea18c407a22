"""Data set readers, label maps, resizing and the writer of packed splits."""
