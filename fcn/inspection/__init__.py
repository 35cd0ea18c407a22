"""Inspect a user's folder of images and masks, and adopt it as a data set with a recipe."""
