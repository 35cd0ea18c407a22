"""MLflow: one row per experiment, one child run per stage."""
