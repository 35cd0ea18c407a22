"""Comparisons of experiments: scores with their uncertainty, params, code and pictures; and of data sets."""
