"""`fcn search`: a search over params by Optuna."""
