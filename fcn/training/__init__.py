"""Loss, steps, optimizer, checkpoints: one net of the ladder from its parent to its model file."""
