"""Backbones that others trained on ImageNet, as this project's state dicts, with their preprocessing."""

import warnings
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn
from torchvision import models

from fcn.io import download, pins
from fcn.io.archive import Archive, at
from fcn.models.fcn import BACKBONES
from fcn.models.layers import CAFFE, TORCHVISION, Preprocessing
from fcn.models.weights import Published, State
from fcn.pretrained import published
from fcn.runtime import files
from fcn.runtime.errors import UserError, first_line

# What torchvision calls each backbone.
NAMES = {"vgg16": "vgg16", "vgg16_bn": "vgg16_bn", "vgg19": "vgg19", "vgg19_avg": "vgg19"}
VGG16 = "VGG_ILSVRC_16_layers"
CAFFE_VGG16 = Archive(
    f"{VGG16}.caffemodel",
    at(f"www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/{VGG16}.caffemodel"),
    "VGG16 by Simonyan and Zisserman: CC BY 4.0",
    "a6196bc498e45ea4cb2637114ae8db9410cf1556fd60a55ae93272371beba197",  # as OpenVINO's model zoo publishes it
    553_432_081,
    kind="weights",
)
# torchvision publishes the first eight digits alone, in the files' names; many projects give the others.
DIGESTS = {
    "vgg16-397923af.pth": "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "vgg16_bn-6c64b313.pth": "6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a",
    "vgg19-dcbb9e9d.pth": "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
}


def backbone(name: str, origin: str) -> tuple[State, Preprocessing, Published]:
    """The weights of a backbone, what they expect, and the file used; fc6 and fc7 as convolutions, fc8 dropped.

    raises   UserError if nobody published these, or they cannot be fetched
    """
    where = archive(name, origin)
    if origin == "caffe":
        state, origin_file = published.state_dict(VGG16, where)
        return state, CAFFE, origin_file
    path = download.fetch(where)
    with path.open("rb") as file:
        state = from_torchvision(name, unpickle(file, path))
    pins.record_unpublished(where, path)
    return state, TORCHVISION, Published(where.stem, files.sha256(path))


def archive(name: str, origin: str) -> Archive:
    """Where the weights of a backbone are published.

    origin   torchvision, or caffe (the reference's own, VGG16 only)
    raises   UserError if nobody published these
    """
    if origin == "torchvision" and name in NAMES:
        return torchvision_archive(name)
    if origin == "caffe" and name == "vgg16":
        return CAFFE_VGG16
    known = ", ".join(f"torchvision for {n}" for n in NAMES)
    raise UserError(f"params.yaml: model.weights {origin!r} has no {name}; there is {known}, caffe for vgg16")


def unpickle(file: BinaryIO, path: Path) -> State:
    """The tensors of a file that torch.save wrote and whose digest was compared; no other object is ever made.

    raises   UserError if there is anything but tensors by name
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of unusual protocols, which are refused or read all the same
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a pickle has many ways to be broken, and its reader no one word for them
        reason = first_line(error)
        raise UserError(f"{path} holds more, or less, than tensors ({reason})") from None
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise UserError(f"{path} holds something else than tensors by name")
    return dict(content)


def torchvision_archive(name: str) -> Archive:
    """Where torchvision keeps the weights."""
    url: str = models.get_model_weights(NAMES[name])["IMAGENET1K_V1"].url
    file = url.rpartition("/")[2]
    digest = DIGESTS.get(file) or file.removesuffix(".pth").rpartition("-")[2]
    return Archive(file, (url,), "torchvision's ImageNet weights: BSD-3-Clause", digest, kind="weights")


def from_torchvision(name: str, theirs: State) -> State:
    """A torchvision VGG's state dict under the Caffe names; the last layer of its classifier is dropped.

    raises   UserError that lists what is missing and what has no place
    """
    names = torchvision_names(name)
    wanted = set(names.values()) | {"classifier.6.weight", "classifier.6.bias"}
    found = [f"{key} is missing" for key in names.values() if key not in theirs]
    if name != "vgg19_avg":  # which leaves the end of VGG19 out
        found += [f"{key} is unknown" for key in theirs if key not in wanted]
    if found:
        raise UserError(f"these weights are not torchvision's {NAMES[name]}: {'; '.join(found)}")
    state = {ours: theirs[key] for ours, key in names.items()}
    for fc, size in (("fc6", 7), ("fc7", 1)):
        weight = state[f"{fc}.weight"]
        state[f"{fc}.weight"] = weight.reshape(weight.shape[0], -1, size, size)
    return state


def torchvision_names(name: str) -> dict[str, str]:
    """What torchvision calls each weight of a backbone, by our name."""
    with torch.device("meta"):
        layers: nn.Sequential = getattr(models, NAMES[name])().features
    names: dict[str, str] = {}
    block, i = 1, 0
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d):
            block, i = block + 1, 0
            continue
        i += isinstance(layer, nn.Conv2d)
        kind = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn"}.get(type(layer))
        if kind and i <= BACKBONES[name].convolutions[block - 1]:
            names |= {f"{kind}{block}_{i}.{key}": f"features.{number}.{key}" for key in layer.state_dict()}
    for fc, number in (("fc6", 0), ("fc7", 3)):
        names |= {f"{fc}.{key}": f"classifier.{number}.{key}" for key in ("weight", "bias")}
    return names
