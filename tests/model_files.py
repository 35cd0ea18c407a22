"""Nets, model files and images that tests make up."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from makers import encoded
from PIL import Image

from fcn.datasets.label_maps import SCENES, SCENES_GEOMETRIC
from fcn.models import FCN, Net, State, build
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


def net_of(path: Path, geometric: int = 0, fusion: str = "early", **inputs: int) -> Net:
    """Writes the model file of an untrained FCN-8s whose classes all win somewhere, with these inputs; returns the net.

    geometric   classes of a second score path
    """
    torch.manual_seed(1)
    inputs = inputs or {"rgb": 3}
    architecture = META.architecture | {"inputs": inputs} | ({"geometric": geometric} if geometric else {})
    architecture |= {"fusion": "late"} if fusion == "late" else {}
    preprocessing = TORCHVISION.extended(inputs)
    net = build(**architecture, preprocessing=preprocessing).eval()
    for name, parameter in net.named_parameters():
        if "score" in name:
            torch.nn.init.normal_(parameter)
    labels = SCENES_GEOMETRIC if geometric else None
    meta = replace(META, architecture=architecture, preprocessing=preprocessing, geometric=labels)
    model_file.save(path, net.state_dict(), meta)
    return net


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def slim_net() -> FCN:
    """An FCN-8s for META, with random weights."""
    return FCN(8, 8, "slim", pad="same").eval()


def in_base64(image: Image.Image, kind: str = "png") -> str:
    """An image as a request to the server has it."""
    return base64.b64encode(encoded(image, kind)).decode()
