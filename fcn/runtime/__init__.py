"""Errors, atomic files, locks, device and threads, worker processes, progress, the distributed group."""
