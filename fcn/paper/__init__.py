"""The findings of the paper as experiments: what they are, how they are judged, and the page about them."""
