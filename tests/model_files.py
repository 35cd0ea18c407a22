"""Nets, model files and images that tests make up."""

import base64

import numpy as np
from makers import encoded
from PIL import Image

from fcn.datasets.label_maps import SCENES
from fcn.models import FCN, State
from fcn.models.backbones import alexnet, googlenet, vgg
from fcn.models.layers import TORCHVISION
from fcn.weights import model_file

# VGG16, AlexNet and GoogLeNet with a few channels.
NARROW = vgg((2, 2, 3, 3, 3), (2, 3, 4, 5, 6), 7)
NARROW_ALEXNET = alexnet((4, 6, 8, 8, 6), 7)
NARROW_GOOGLENET = googlenet(16)
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


def slim_net() -> FCN:
    """An FCN-8s for META, with random weights."""
    return FCN(8, 8, "slim", pad="same").eval()


def in_base64(image: Image.Image, kind: str = "png") -> str:
    """An image as a request to the server has it."""
    return base64.b64encode(encoded(image, kind)).decode()
