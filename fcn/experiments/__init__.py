"""Recipes, plans, history, and what keeps MLflow and DVC consistent."""
