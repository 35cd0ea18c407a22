"""Model files and images that tests make up."""

import numpy as np
from PIL import Image

from fcn.datasets.label_maps import SCENES
from fcn.models import weights
from fcn.models.layers import TORCHVISION

META = weights.Meta(
    architecture={"num_classes": 8, "stride": 8, "backbone": "slim", "pad": "same"},
    preprocessing=TORCHVISION,
    labels=SCENES,
    parent=None,
    published=None,
    iterations=1,
    threads=1,
    params={},
)


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
