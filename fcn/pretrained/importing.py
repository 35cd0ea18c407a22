"""Published weights in their makers' files, as this project's model files; nothing in them is believed."""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fcn.data.labels import Labels
from fcn.datasets import sources
from fcn.io import caffemodel, verification
from fcn.io.archive import Archive
from fcn.models import FCN, loading, weights
from fcn.models.layers import CAFFE
from fcn.models.weights import Meta, Published, State
from fcn.pretrained import imagenet, published
from fcn.runtime import files
from fcn.runtime.errors import UserError

LARGEST = 1 << 30  # bytes; the largest published file has 0.6 GB

# What pytorch-fcn published, by md5: the reference's nets and VGG16, converted from Caffe's files.
# source   models/*.py of wkentaro/pytorch-fcn; fcn16s was uploaded twice
CONVERTED = {
    "d3eb467a80e7da0468a20dfcbc13e6c8": "fcn32s-heavy-pascal",
    "991ea45d30d632a01e5ec48002cac617": "fcn16s-heavy-pascal",
    "a2d4035f669f09483b39c9a14a0d6670": "fcn16s-heavy-pascal",
    "de93e540ec79512f8770033849c8ae89": "fcn8s-heavy-pascal",
    "bfed4437e941fef58932891217fe6464": "fcn8s-atonce-pascal",
    "aa75b158f4181e7f6230029eb96c1b13": imagenet.VGG16,
}


def convert(
    path: Path, *, name: str | None = None, out: Path | None = None, digests: Mapping[str, str] = CONVERTED
) -> tuple[Path, str]:
    """Writes the model file of a published one, .caffemodel or pytorch-fcn's .pth, after checking all of it.

    name      which net a .caffemodel is, if its file was renamed
    out       where to; else where `init` and `model.weights` find it
    digests   md5 of the pickled files that are known, and which net each is
    returns   the model file, and the name of what it is
    raises    UserError that lists every name, shape and value that is not the net's
    """
    state, name = _read(path, name, digests)
    backbone = name == imagenet.VGG16
    out = out or published.imported(archive(name))
    state, facts = _backbone(state) if backbone else _net(state, name)
    used = Published(name, files.sha256(path))
    origin: dict[str, Any] = {"parent": None, "published": used, "iterations": 0, "params": {}}
    weights.save(out, state, Meta(**facts, **origin, threads=torch.get_num_threads()))
    return out, name


def archive(name: str) -> Archive:
    """Where the net or backbone of this name is published."""
    return imagenet.CAFFE_VGG16 if name == imagenet.VGG16 else published.archive(name)


def _read(path: Path, name: str | None, digests: Mapping[str, str]) -> tuple[State, str]:
    """What a published file holds, and the name of what it is; compared with its digest where one is known."""
    if not path.is_file():
        raise UserError(f"{path} is missing")
    if not 0 < path.stat().st_size <= LARGEST:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes; published weights have 1 to {LARGEST:,}")
    if path.suffix != ".caffemodel":
        state, found = _converted(path, digests)
        if name not in (None, found):
            raise UserError(f"{path} is {found}, not {name}")
        return state, found
    name = name or path.stem
    if name not in published.NETS and name != imagenet.VGG16:
        known = ", ".join([*published.NETS, imagenet.VGG16])
        raise UserError(f"{path} has the name of no published net; say with --net which it is: {known}")
    if archive(name).has_digest and (reason := verification.fault(path, archive(name))):
        raise UserError(f"{path} is not the published {archive(name).name}: {reason}")
    at_once = name in published.NETS and published.NETS[name].at_once
    return caffemodel.state_dict(caffemodel.read(path), at_once=at_once), name


def _converted(path: Path, digests: Mapping[str, str]) -> tuple[State, str]:
    """The tensors of a pickled file, and which net they are; it is opened only if its digest is known."""
    with path.open("rb") as file:  # once, so that what is unpickled is what was compared
        digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest not in digests:
            raise UserError(
                f"{path} (md5 {digest}) is none of the files that pytorch-fcn published, and was not opened: "
                "a pickle can run any program; import the .caffemodel instead"
            )
        file.seek(0)
        return imagenet.unpickle(file, path), digests[digest]


def _net(state: State, name: str) -> tuple[State, dict[str, Any]]:
    """What the net of this name holds, compared with a net of ours, and what a model file says of it."""
    theirs, architecture = published.NETS[name], published.architecture(name)
    net = FCN(**architecture, preprocessing=theirs.preprocessing)
    loading.fill(net, state, name)
    return net.state_dict(), {
        "architecture": architecture,
        "preprocessing": theirs.preprocessing,
        "labels": _labels(theirs.dataset, theirs.classes),
    }


def _backbone(state: State) -> tuple[State, dict[str, Any]]:
    if "features.0.weight" in state:
        state = imagenet.from_torchvision("vgg16", state)
    with torch.device("meta"):
        net = FCN(1, 32, "vgg16").state_dict()
    expected = {key: tensor for key, tensor in net.items() if not key.startswith("score")}
    if found := loading.surprises(state, expected):
        raise UserError(f"{imagenet.VGG16} is another net: {'; '.join(found)}")
    return state, {"architecture": {"backbone": "vgg16"}, "preprocessing": CAFFE, "labels": None}


def _labels(dataset: str, classes: int) -> Labels | None:
    """The classes' names and colours, where this project reads the data set and counts its classes alike."""
    if importlib.util.find_spec(f"fcn.datasets.sources.{dataset}") is None:
        return None
    labels = sources.get(dataset).LABELS
    return labels if len(labels.names) == classes else None
