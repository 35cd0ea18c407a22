"""What the predictions on the evaluation split say, image by image."""
