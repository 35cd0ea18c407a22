"""A folder of one's own images and masks: what is wrong with it, and the recipe it becomes."""
