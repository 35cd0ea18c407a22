"""What dvc.yaml says of a stage, and what dvc.lock recorded."""
