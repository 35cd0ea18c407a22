"""Weights that others published, as this project's state dicts, with the preprocessing that belongs to them.

A pickled file is opened weights-only, and only after its digest was compared; a .caffemodel is read
by our own bounded reader.
"""

from pathlib import Path

import torch
from torch import nn
from torchvision import models

from fcn import caffemodel, download
from fcn.errors import UserError
from fcn.layers import CAFFE, TORCHVISION, Preprocessing
from fcn.models import BACKBONES, FCN
from fcn.sources import Archive
from fcn.weights import State

# ImageNet nets by backbone, as torchvision names them.
TORCHVISION_NAMES = {"vgg16": "vgg16", "vgg16_bn": "vgg16_bn", "vgg19": "vgg19", "vgg19_avg": "vgg19"}
CAFFE_VGG16 = Archive(
    "VGG_ILSVRC_16_layers.caffemodel",
    ("http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",),
    "VGG16 by Simonyan and Zisserman: CC BY 4.0",
)
# The reference's nets: their preprocessing is VOC's mean colour, whatever they were trained on.
NETS = {
    name: Archive(f"{name}.caffemodel", (f"http://dl.caffe.berkeleyvision.org/{name}.caffemodel",), licence)
    for name, licence in {
        "fcn32s-heavy-pascal": "FCN's authors: free for research",
        "fcn16s-heavy-pascal": "FCN's authors: free for research",
        "fcn8s-heavy-pascal": "FCN's authors: free for research",
        "fcn8s-atonce-pascal": "FCN's authors: free for research",
    }.items()
}


def load(net: FCN, name: str) -> None:
    """Fills a net with published weights, every one of them.

    raises   UserError if there are none of this name, or they are another net's
    """
    if name not in NETS:
        raise UserError(f"params.yaml: init is {name!r}; there is parent, {', '.join(NETS)}")
    if net.preprocessing != CAFFE:
        raise UserError(f"{name} expects model.preprocessing: caffe")
    state = caffemodel.state_dict(caffemodel.read(download.fetch(NETS[name])), at_once=net.at_once)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{name} is another net: {' '.join(str(error).split())}") from None


def backbone(name: str, weights: str) -> tuple[State, Preprocessing]:
    """The weights of a backbone trained on ImageNet; fc6 and fc7 as convolutions, fc8 dropped.

    weights   torchvision, or caffe (the reference's own, VGG16 only)
    raises    UserError if nobody published these, or they cannot be fetched
    """
    if weights == "torchvision" and name in TORCHVISION_NAMES:
        return from_torchvision(name, download.fetch(torchvision_archive(name))), TORCHVISION
    if weights == "caffe" and name == "vgg16":
        return caffemodel.state_dict(caffemodel.read(download.fetch(CAFFE_VGG16))), CAFFE
    known = ", ".join(f"torchvision for {n}" for n in TORCHVISION_NAMES)
    raise UserError(f"params.yaml: model.weights {weights!r} has no {name}; there is {known}, caffe for vgg16")


def torchvision_archive(name: str) -> Archive:
    """Where torchvision keeps the weights; a file's name ends in the first eight digits of its sha256."""
    url: str = models.get_model_weights(TORCHVISION_NAMES[name])["IMAGENET1K_V1"].url
    file = url.rpartition("/")[2]
    digest = file.removesuffix(".pth").rpartition("-")[2]
    return Archive(file, (url,), "torchvision's ImageNet weights: BSD-3-Clause", digest)


def from_torchvision(name: str, path: Path) -> State:
    """A torchvision VGG's file, under the Caffe names."""
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        layers: nn.Sequential = getattr(models, TORCHVISION_NAMES[name])().features
    state: State = {}
    block, i = 1, 0
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d):
            block, i = block + 1, 0
            continue
        i += isinstance(layer, nn.Conv2d)
        kind = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn"}.get(type(layer))
        if kind and i <= BACKBONES[name].convolutions[block - 1]:
            for key in layer.state_dict():
                state[f"{kind}{block}_{i}.{key}"] = theirs[f"features.{number}.{key}"]
    for fc, number, size in (("fc6", 0, 7), ("fc7", 3, 1)):
        weight = theirs[f"classifier.{number}.weight"]
        state[f"{fc}.weight"] = weight.reshape(weight.shape[0], -1, size, size)
        state[f"{fc}.bias"] = theirs[f"classifier.{number}.bias"]
    return state
