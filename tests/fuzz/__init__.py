"""Readers under fire: coverage-guided fuzzing (`make fuzz`) and seeded mutation (`make malformed`)."""
