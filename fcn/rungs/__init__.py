"""One rung of the ladder as a stage: initialize, train, validate, log, save, and resume if killed."""
