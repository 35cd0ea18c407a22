"""FCN-32s, FCN-16s and FCN-8s (Long, Shelhamer, Darrell): data, nets, training, scores."""
