"""Imports published weights (.caffemodel, .pth, .npz) as model files, after checking every name, shape and value."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fcn import models
from fcn.datasets import sources
from fcn.io import caffemodel, npz, verification
from fcn.io.archive import Archive
from fcn.models import FCN, State, backbones
from fcn.pretrained import imagenet, published
from fcn.runtime import files
from fcn.runtime.errors import UserError
from fcn.weights import loading, model_file
from fcn.weights.model_file import Meta, Published

MAX_SIZE = 1 << 30  # bytes; the largest published file has 0.6 GB

# Files published by pytorch-fcn and, for Chainer, by fcn, by md5: the reference's nets and VGG16, converted from Caffe.
# source   models/*.py of wkentaro/pytorch-fcn (fcn16s was uploaded twice); data.py and models/*.py of wkentaro/fcn
CONVERTED = {
    "d3eb467a80e7da0468a20dfcbc13e6c8": "fcn32s-heavy-pascal",
    "991ea45d30d632a01e5ec48002cac617": "fcn16s-heavy-pascal",
    "a2d4035f669f09483b39c9a14a0d6670": "fcn16s-heavy-pascal",
    "de93e540ec79512f8770033849c8ae89": "fcn8s-heavy-pascal",
    "bfed4437e941fef58932891217fe6464": "fcn8s-atonce-pascal",
    "aa75b158f4181e7f6230029eb96c1b13": imagenet.VGG16,
    "b7f0a2e66229ccdb099c0a60b432e8cf": "fcn32s-heavy-pascal",
    "7c9b50a1a8c6c20d3855d4823bbea61e": "fcn16s-heavy-pascal",
    "256c2a8235c1c65e62e48d3284fbd384": "fcn8s-heavy-pascal",
    "5f3ffdc7fae1066606e1ef45cfda548f": "fcn8s-atonce-pascal",
    "54a0cddc1392ccc4056bbeecbb30f3d4": imagenet.VGG16,
}
BACKBONES = {archive.stem: name for name, archive in imagenet.IN_CAFFE.items()}  # by the name of the published file


def convert(
    path: Path, *, name: str | None = None, out: Path | None = None, digests: Mapping[str, str] = CONVERTED
) -> tuple[Path, str]:
    """Converts a published .caffemodel, a .pth of pytorch-fcn or an .npz of Chainer's fcn to a model file.

    name      name of the net in a .caffemodel, if the file was renamed
    out       model file to write; by default where `init` and `model.weights` find it
    digests   names of the nets in known .pth and .npz files, by md5
    returns   the model file and the name of the net
    raises    UserError listing every name, shape and value that does not match the net
    """
    state, name = _read(path, name, digests)
    backbone = BACKBONES.get(name)
    out = out or published.imported(archive(name))
    state, facts = _backbone(state, backbone) if backbone else _net(state, name)
    used = Published(name, files.sha256(path))
    origin: dict[str, Any] = {"parent": None, "published": used, "iterations": 0, "params": {}}
    model_file.save(out, state, Meta(**facts, **origin, threads=torch.get_num_threads()))
    return out, name


def archive(name: str) -> Archive:
    """The download of a published net or backbone."""
    return imagenet.IN_CAFFE[BACKBONES[name]] if name in BACKBONES else published.archive(name)


def _read(path: Path, name: str | None, digests: Mapping[str, str]) -> tuple[State, str]:
    """State dict and name of a published file, after checking its digest if one is known."""
    if not path.is_file():
        raise UserError(f"{path} is missing")
    if not 0 < path.stat().st_size <= MAX_SIZE:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes; published weights have 1 to {MAX_SIZE:,}")
    if path.suffix != ".caffemodel":
        state, actual = _converted(path, digests)
        if name not in (None, actual):
            raise UserError(f"{path} is {actual}, not {name}")
        return state, actual
    name = name or path.stem
    if name not in published.NETS and name not in BACKBONES:
        known = ", ".join([*published.NETS, *BACKBONES])
        raise UserError(f"{path} does not have the name of a published net; name it with --net: {known}")
    if archive(name).has_digest and (reason := verification.fault(path, archive(name))):
        raise UserError(f"{path} is not the published {archive(name).name}: {reason}")
    at_once = name in published.NETS and published.NETS[name].at_once
    backbone = BACKBONES.get(name) or published.NETS[name].backbone
    blobs = caffemodel.read(path)
    return caffemodel.state_dict(blobs, at_once=at_once, fc6=backbones.BACKBONES[backbone].kernel), name


def _converted(path: Path, digests: Mapping[str, str]) -> tuple[State, str]:
    """State dict and name of a .pth or .npz file. A .pth is unpickled only if its digest is known."""
    with path.open("rb") as file:  # opened once, so that the content unpickled is the content checked
        digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest not in digests:
            raise UserError(
                f"{path} (md5 {digest}) is not a file published by pytorch-fcn or fcn and was not loaded: "
                "a pickle can run arbitrary code; import the .caffemodel instead"
            )
        file.seek(0)
        if path.suffix == ".npz":
            name = digests[digest]
            at_once = name in published.NETS and published.NETS[name].at_once
            return caffemodel.state_dict(npz.read(file, path), at_once=at_once), name
        return imagenet.unpickle(file, path), digests[digest]


def _net(state: State, name: str) -> tuple[State, dict[str, Any]]:
    """Checks a state dict against the net of this name; returns it with the metadata of its model file."""
    theirs = published.NETS[name]
    architecture, source = published.architecture(theirs), sources.get(theirs.dataset)
    net = models.build(**architecture, preprocessing=theirs.preprocessing)
    loading.fill(net, state, name)
    facts = {"architecture": architecture, "preprocessing": theirs.preprocessing, "labels": source.LABELS}
    return net.state_dict(), facts | ({"geometric": vars(source)["GEOMETRIC"]} if theirs.geometric else {})


def _backbone(state: State, backbone: str) -> tuple[State, dict[str, Any]]:
    if "features.0.weight" in state:
        state = imagenet.from_torchvision(backbone, state)
    with torch.device("meta"):
        net = FCN(1, 32, backbone).state_dict()
    expected = {key: tensor for key, tensor in net.items() if not key.startswith("score")}
    if problems := loading.mismatches(state, expected):
        raise UserError(f"{imagenet.IN_CAFFE[backbone].stem} is another net: {'; '.join(problems)}")
    preprocessing = imagenet.in_caffe(backbone)
    return state, {"architecture": {"backbone": backbone}, "preprocessing": preprocessing, "labels": None}
