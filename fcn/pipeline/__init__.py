"""Reading dvc.yaml, dvc.lock and DVC's cache."""
