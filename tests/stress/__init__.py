"""Readers and the server under fire: fuzzing (`make fuzz`) and seeded mutation (`make malformed`, `make http`)."""
