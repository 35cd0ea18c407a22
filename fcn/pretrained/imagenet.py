"""Backbones pretrained on ImageNet (torchvision, Caffe), converted to this project's layer names."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn
from torchvision import models

from fcn.io import download, pins
from fcn.io.archive import Archive, https_or_http
from fcn.models import State
from fcn.models.backbones import BACKBONES
from fcn.models.layers import CAFFE, TORCHVISION, Preprocessing
from fcn.pretrained import published
from fcn.runtime import files
from fcn.runtime.errors import UserError, first_line
from fcn.weights.model_file import Published

# torchvision's model name of each backbone.
NAMES = {"vgg16": "vgg16", "vgg16_bn": "vgg16_bn", "vgg19": "vgg19", "vgg19_avg": "vgg19"}
VGG16, CAFFENET, GOOGLENET = "VGG_ILSVRC_16_layers", "bvlc_reference_caffenet", "bvlc_googlenet"
CAFFE_VGG16 = Archive(
    f"{VGG16}.caffemodel",
    https_or_http(f"www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/{VGG16}.caffemodel"),
    "VGG16 by Simonyan and Zisserman: CC BY 4.0",
    "a6196bc498e45ea4cb2637114ae8db9410cf1556fd60a55ae93272371beba197",  # as OpenVINO's model zoo publishes it
    553_432_081,
    kind="weights",
)
# AlexNet with pooling before normalization, as in the reference's net.
CAFFE_ALEXNET = Archive(
    f"{CAFFENET}.caffemodel",
    https_or_http(f"dl.caffe.berkeleyvision.org/{CAFFENET}.caffemodel"),
    "CaffeNet by BAIR/BVLC: unrestricted use",
    sha1="4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",  # models/bvlc_reference_caffenet/readme.md of BVLC/caffe
    kind="weights",
)
CAFFE_GOOGLENET = Archive(
    f"{GOOGLENET}.caffemodel",
    https_or_http(f"dl.caffe.berkeleyvision.org/{GOOGLENET}.caffemodel"),
    "GoogLeNet by BAIR/BVLC: unrestricted use",
    sha1="405fc5acd08a3bb12de8ee5e23a96bec22f08204",  # models/bvlc_googlenet/readme.md of BVLC/caffe
    kind="weights",
)
IN_CAFFE = {"vgg16": CAFFE_VGG16, "alexnet": CAFFE_ALEXNET, "googlenet": CAFFE_GOOGLENET}  # by backbone
# Mean colour of the Caffe nets that differ from CAFFE; source: train_val.prototxt of bvlc_googlenet
MEANS = {"googlenet": (104.0, 117.0, 123.0)}
# torchvision publishes only the first eight digits, in the file names; other projects publish the full digests.
DIGESTS = {
    "vgg16-397923af.pth": "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "vgg16_bn-6c64b313.pth": "6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a",
    "vgg19-dcbb9e9d.pth": "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
}


def backbone(name: str, origin: str) -> tuple[State, Preprocessing, Published]:
    """Weights of a backbone, fetched if necessary; fc6 and fc7 are convolutions, fc8 is dropped.

    origin   torchvision or caffe
    returns  state dict, the preprocessing that it expects, and the published file that was used
    raises   UserError if there are no such weights, or they cannot be fetched
    """
    where = archive(name, origin)
    if origin == "caffe":
        state, origin_file = published.state_dict(where.stem, where, name)
        return state, in_caffe(name), origin_file
    path = download.fetch(where)
    with path.open("rb") as file:
        state = from_torchvision(name, unpickle(file, path))
    pins.record_unpublished(where, path)
    return state, TORCHVISION, Published(where.stem, files.sha256(path))


def in_caffe(name: str) -> Preprocessing:
    """The preprocessing that Caffe's weights of a backbone expect."""
    return replace(CAFFE, mean=MEANS.get(name, CAFFE.mean))


def archive(name: str, origin: str) -> Archive:
    """Where the weights of a backbone are published.

    origin   torchvision, or caffe (VGG16 and AlexNet, from which the reference starts, and GoogLeNet)
    raises   UserError if there are no such weights
    """
    if origin == "torchvision" and name in NAMES:
        return torchvision_archive(name)
    if origin == "caffe" and name in IN_CAFFE:
        return IN_CAFFE[name]
    other = "; torchvision's googlenet is another net, with batch norm and 3×3 instead of 5×5 convolutions"
    other = other if (name, origin) == ("googlenet", "torchvision") else ""
    known = ", ".join([*(f"torchvision for {n}" for n in NAMES), *(f"caffe for {n}" for n in IN_CAFFE)])
    raise UserError(f"params.yaml: model.weights {origin!r} has no {name}; available are {known}{other}")


def unpickle(file: BinaryIO, path: Path) -> State:
    """Loads a file written by torch.save whose digest was checked, with `weights_only=True`.

    raises   UserError if it contains anything but a dict of tensors
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about unusual pickle protocols, which are read or fail anyway
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # broken pickles raise many kinds of exceptions
        reason = first_line(error)
        raise UserError(f"{path} cannot be read as a file of tensors ({reason})") from None
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise UserError(f"{path} is not a dict of tensors by name")
    return dict(content)


def torchvision_archive(name: str) -> Archive:
    """The download of torchvision's weights."""
    url: str = models.get_model_weights(NAMES[name])["IMAGENET1K_V1"].url
    file = url.rpartition("/")[2]
    digest = DIGESTS.get(file) or file.removesuffix(".pth").rpartition("-")[2]
    return Archive(file, (url,), "torchvision's ImageNet weights: BSD-3-Clause", digest, kind="weights")


def from_torchvision(name: str, theirs: State) -> State:
    """Renames a torchvision VGG's state dict to Caffe layer names; the last classifier layer is dropped.

    raises   UserError listing missing and unknown weights
    """
    names = torchvision_names(name)
    expected = set(names.values()) | {"classifier.6.weight", "classifier.6.bias"}
    problems = [f"{key} is missing" for key in names.values() if key not in theirs]
    if name != "vgg19_avg":  # it does not use the last layer of VGG19
        problems += [f"{key} is unknown" for key in theirs if key not in expected]
    if problems:
        raise UserError(f"these weights are not torchvision's {NAMES[name]}: {'; '.join(problems)}")
    state = {ours: theirs[key] for ours, key in names.items()}
    for fc, size in (("fc6", 7), ("fc7", 1)):
        weight = state[f"{fc}.weight"]
        state[f"{fc}.weight"] = weight.reshape(weight.shape[0], -1, size, size)
    return state


def torchvision_names(name: str) -> dict[str, str]:
    """torchvision's name of each weight of a backbone, by this project's name."""
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
        if kind and i <= len(BACKBONES[name].blocks[block - 1]):
            names |= {f"{kind}{block}_{i}.{key}": f"features.{number}.{key}" for key in layer.state_dict()}
    for fc, number in (("fc6", 0), ("fc7", 3)):
        names |= {f"{fc}.{key}": f"classifier.{number}.{key}" for key in ("weight", "bias")}
    return names
