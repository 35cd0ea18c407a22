"""Analyse the predictions on the evaluation split, image by image."""
