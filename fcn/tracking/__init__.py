"""MLflow tracking: one parent run (a row of the runs table) per experiment, one child run per stage."""
