"""Recipes, plans, the history of experiments, and the tools that keep MLflow and DVC consistent."""
