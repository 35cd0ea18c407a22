"""Loss, optimizer and steps."""
