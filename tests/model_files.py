"""Model files and images that tests make up."""

import numpy as np
from PIL import Image

from fcn.datasets.label_maps import SCENES
from fcn.models import FCN, State
from fcn.models.layers import TORCHVISION
from fcn.weights import model_file

META = model_file.Meta(
    architecture={"num_classes": 8, "stride": 8, "backbone": "slim", "pad": "same"},
    preprocessing=TORCHVISION,
    labels=SCENES,
    parent=None,
    published=None,
    iterations=1,
    threads=1,
    params={},
)


def slim_backbone() -> State:
    """The weights from which a slim FCN-32s starts."""
    return {k: v for k, v in FCN(1, 32, "slim").state_dict().items() if not k.startswith("score")}


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
