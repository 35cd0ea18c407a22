"""The published nets of the Caffe reference, one's own nets, and the model files that initialize rungs from them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fcn import models
from fcn.io import caffemodel, download, pins
from fcn.io.archive import Archive, https_or_http
from fcn.models import State
from fcn.models.backbones import BACKBONES
from fcn.models.layers import CAFFE, Preprocessing
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError
from fcn.weights import loading, model_file
from fcn.weights.model_file import Published


@dataclass(frozen=True)
class Net:
    """An FCN of the reference, or of the user.

    dataset         data set whose classes it scores, in the order of that data set
    classes         number of classes
    preprocessing   of the reference's nets: BGR minus the mean colour of the training set
    inputs          channels of each input, by name
    fusion          "late": a net for each input
    geometric       classes of its second score path, or 0
    offered         whether its weights can be downloaded; those of others can only be imported
    pad, upsampling as for FCN
    names           of the classes, if it is the user's

    source   net.py, *_layers.py and caffemodel-url in the reference's folders
    """

    stride: int
    dataset: str
    classes: int
    preprocessing: Preprocessing = CAFFE
    at_once: bool = False
    backbone: str = "vgg16"
    inputs: Mapping[str, int] = field(default_factory=lambda: {"rgb": 3})
    fusion: str = "early"
    geometric: int = 0
    offered: bool = True
    pad: int | str = 100
    upsampling: str = "fixed"
    names: tuple[str, ...] = ()


def _with_mean(blue: float, green: float, red: float) -> Preprocessing:
    return Preprocessing("BGR", 1.0, (blue, green, red), (1.0, 1.0, 1.0))


SIFTFLOW, NYUD = _with_mean(114.578, 115.294, 108.353), _with_mean(116.190, 97.203, 92.318)
CONTEXT = _with_mean(104.007, 116.669, 122.679)


def _nyud(fusion: str = "early", offered: bool = True, **inputs: int) -> Net:
    return Net(32, "nyud", 40, NYUD.extended(inputs), inputs=inputs, fusion=fusion, offered=offered)


NETS = {
    "fcn32s-heavy-pascal": Net(32, "voc", 21),
    "fcn16s-heavy-pascal": Net(16, "voc", 21),
    "fcn8s-heavy-pascal": Net(8, "voc", 21),
    "fcn8s-atonce-pascal": Net(8, "voc", 21, at_once=True),
    "fcn-alexnet-pascal": Net(32, "voc", 21, backbone="alexnet"),
    "siftflow-fcn32s-heavy": Net(32, "siftflow", 33, SIFTFLOW, geometric=3),
    "siftflow-fcn16s-heavy": Net(16, "siftflow", 33, SIFTFLOW, geometric=3),
    "siftflow-fcn8s-heavy": Net(8, "siftflow", 33, SIFTFLOW, geometric=3),
    "nyud-fcn32s-color-heavy": _nyud(rgb=3),
    "nyud-fcn32s-hha-heavy": _nyud(hha=3),
    "nyud-fcn32s-color-hha-heavy": _nyud("late", rgb=3, hha=3),
    # The reference has net.py and solver.prototxt of this one, but no caffemodel-url: its weights were never published.
    "nyud-fcn32s-color-d-heavy": _nyud(offered=False, rgb=3, depth=1),
    "pascalcontext-fcn32s-heavy": Net(32, "context60", 60, CONTEXT),
    "pascalcontext-fcn16s-heavy": Net(16, "context60", 60, CONTEXT),
    "pascalcontext-fcn8s-heavy": Net(8, "context60", 60, CONTEXT),
}
OWN = Path("data/own")  # one's own nets, NAME.safetensors; DVC tracks each with a .dvc file of its own
JOIN = "+"  # between the names of nets of which a late fusion starts
# Digests published by other projects.
# source   testdata/dnn/download_models.py of opencv/opencv_extra
SHA1 = {"fcn8s-heavy-pascal": "c449ea74dd7d83751d1357d6a8c323fcf4038962"}


def archive(name: str) -> Archive:
    """The download of a net in NETS, or the file of one's own net."""
    if name not in NETS:
        return Archive(f"{name}.safetensors", (), "your own net", kind="weights")
    licence = "FCN's authors: unrestricted use (BVLC model license)"
    file = f"{name}.caffemodel"
    urls = https_or_http(f"dl.caffe.berkeleyvision.org/{file}") if NETS[name].offered else ()
    return Archive(file, urls, licence, sha1=SHA1.get(name), kind="weights")


def own(name: str) -> Path:
    """The model file of one's own net; in the main checkout, so that experiments in copies find it too."""
    return machine.root() / OWN / f"{name}.safetensors"


def archives(init: str) -> list[Archive]:
    """The files of the nets that `init` names.

    raises   UserError as `find_net`
    """
    find_net(init)
    return [archive(name) for name in init.split(JOIN)]


def find_net(init: str) -> Net:
    """The net that `init` names, or the late fusion of the nets that it joins with +, as the reference starts its own.

    raises   UserError if there is no such net, or these nets cannot be fused
    source   nyud-fcn32s-color-hha/solve.py
    """
    first, *others = nets = [_find_one(name, init) for name in init.split(JOIN)]
    if not others:
        return first
    inputs = {name: channels for net in nets for name, channels in net.inputs.items()}
    same = all(replace(net, inputs=first.inputs, preprocessing=first.preprocessing) == first for net in others)
    if not same or len(inputs) < len(nets) or any(len(net.inputs) > 1 for net in nets):
        raise UserError(
            f"params.yaml: init is {init}: a late fusion joins nets of one input each, all different, with the same "
            "stride and classes"
        )
    parts = [net.preprocessing for net in nets]
    if any(part.scale != parts[0].scale for part in parts):
        raise UserError(f"params.yaml: init is {init}: the nets were trained with different model.preprocessing")
    if any(part.order != "RGB" for part in parts[1:]):
        raise UserError(f"params.yaml: init is {init}: name the net that takes rgb first, and rgb first in data.inputs")
    mean, std = (tuple(value for part in parts for value in getattr(part, name)) for name in ("mean", "std"))
    return replace(first, inputs=inputs, fusion="late", preprocessing=replace(parts[0], mean=mean, std=std))


def _find_one(name: str, init: str) -> Net:
    if name in NETS:
        return NETS[name]
    path = own(name)
    if not path.is_file() or not re.fullmatch(model_file.NAME, name):
        raise UserError(
            f"params.yaml: init is {init!r}; choose from parent, {', '.join(NETS)}, or put a net of your own into "
            f"{OWN}/{name}.safetensors"
        )
    meta = model_file.facts(path)
    given = meta.architecture
    if "stride" not in given:
        raise UserError(f"{path} holds a backbone, not a net")
    same_name = ("stride", "at_once", "backbone", "inputs", "fusion", "geometric", "pad", "upsampling")
    facts = {key: given[key] for key in same_name if key in given}
    return Net(
        dataset="your own data",
        classes=given["num_classes"],
        preprocessing=meta.preprocessing,
        names=tuple(meta.labels.names) if meta.labels else (),
        **facts,
    )


def architecture(theirs: Net) -> dict[str, Any]:
    """Arguments of `fcn.models.build` for a net."""
    optional = {
        "geometric": theirs.geometric or None,
        "inputs": None if theirs.inputs == {"rgb": 3} else dict(theirs.inputs),
        "fusion": "late" if theirs.fusion == "late" else None,
    }
    return {
        "num_classes": theirs.classes,
        "stride": theirs.stride,
        "backbone": theirs.backbone,
        "at_once": theirs.at_once,
        "pad": theirs.pad,
        "upsampling": theirs.upsampling,
        "dropout": 0.5,
    } | {name: value for name, value in optional.items() if value}


def make(init: str, out: Path) -> None:
    """Writes the model file of the net that `init` names, for initializing a rung; downloads weights if necessary.

    raises   UserError listing every name, shape and value that does not match the net
    """
    theirs = find_net(init)
    state: State = {}
    origins: list[Published] = []
    for name in init.split(JOIN):
        part, used = state_dict(name, archive(name), theirs.backbone, at_once=theirs.at_once)
        prefix = f"{next(iter(_find_one(name, init).inputs))}." if JOIN in init else ""
        state |= {prefix + key: tensor for key, tensor in part.items()}
        origins.append(used)
    net = models.build(**architecture(theirs), preprocessing=theirs.preprocessing)
    loading.fill(net, state, init)
    meta = model_file.Meta(
        architecture=architecture(theirs),
        preprocessing=theirs.preprocessing,
        labels=None,
        parent=None,
        published=model_file.joined(origins),
        iterations=0,
        threads=torch.get_num_threads(),
        params={},
    )
    model_file.save(out, net.state_dict(), meta)


def check(
    init: str,
    stride: int,
    backbone: str,
    at_once: bool | None = None,
    classes: int | None = None,
    inputs: Sequence[str] | None = None,
    fusion: str = "early",
    geometric: int = 0,
    names: Sequence[str] = (),
) -> None:
    """raises   UserError if there are no weights of this name, they do not fit such a net, or one's own net is not
                the file that was used first

    at_once, classes   of the net; None if not known yet
    inputs             of the net; None if they, fusion and geometric are not known yet
    names              of the classes; empty if not known yet
    """
    theirs = find_net(init)
    for name in init.split(JOIN):
        if name not in NETS:
            pins.check(archive(name), files.sha256(own(name)), own(name))
    if theirs.stride != stride:
        raise UserError(f"{init} is FCN-{theirs.stride}s and cannot initialize FCN-{stride}s")
    if at_once not in (None, theirs.at_once):
        raise UserError(f"{init} expects model.at_once: {str(theirs.at_once).lower()}")
    if classes not in (None, theirs.classes):
        raise UserError(f"{init} scores {theirs.classes} classes of {theirs.dataset}, the data set has {classes}")
    if differing := [pair for pair in zip(theirs.names, names, strict=False) if pair[0] != pair[1]]:
        raise UserError(f"{init} was trained on other classes: {differing[0][0]} in the place of {differing[0][1]}")
    if theirs.backbone != backbone:
        raise UserError(f"{init} expects model.backbone: {theirs.backbone}")
    if inputs is None:
        return
    if list(inputs) != list(theirs.inputs):
        raise UserError(f"{init} expects data.inputs: {'+'.join(theirs.inputs)}")
    if len(inputs) > 1 and fusion != theirs.fusion:
        raise UserError(f"{init} expects model.fusion: {theirs.fusion}")
    if geometric != theirs.geometric:
        labels = "semantic+geometric" if theirs.geometric else "semantic"
        what = f"scores {theirs.geometric} geometric classes too" if theirs.geometric else "has no second score path"
        if theirs.geometric and geometric:
            raise UserError(f"{init} scores {theirs.geometric} geometric classes, the data set has {geometric}")
        raise UserError(f"{init} {what}; it expects data.labels: {labels}")


def find(archive: Archive) -> Path | None:
    """A local file of published weights: the download, or the model file written by `fcn import`; or one's own net."""
    if archive.name.endswith(".safetensors"):
        return own(archive.stem)
    return download.find(archive) or next(filter(Path.is_file, [imported(archive)]), None)


def imported(archive: Archive) -> Path:
    """Where `fcn import` writes its model file, and `make` and `backbone` look for it."""
    return machine.root() / ".fcn" / "downloads" / f"{archive.name.removesuffix('.caffemodel')}.safetensors"


def state_dict(name: str, archive: Archive, backbone: str, *, at_once: bool = False) -> tuple[State, Published]:
    """The published weights with this project's layer names, downloaded if necessary, and the file used."""
    path, used = locate(name, archive)
    if path.suffix == ".caffemodel":
        return caffemodel.state_dict(caffemodel.read(path), at_once=at_once, fc6=BACKBONES[backbone].kernel), used
    return model_file.load(path)[0], used


def locate(name: str, archive: Archive) -> tuple[Path, Published]:
    """The file with these weights, downloaded if necessary, and its origin.

    For a file written by `fcn import`, the origin is the file that was imported.

    raises   UserError if this is not the same file as in earlier runs
    """
    path = find(archive)
    if path is None and not archive.urls:
        raise UserError(f"{name} was never published; train it, or convert your own file with `fcn import`")
    if path == own(name):
        used = Published(name, files.sha256(path))
    elif path == imported(archive):
        meta = model_file.load(path)[1]
        if meta.published is None or meta.published.name != name:
            raise UserError(
                f"{path} is {meta.published.name if meta.published else 'not a published net'}, not {name}; delete it"
            )
        used = meta.published
    else:
        path = download.fetch(archive)
        used = Published(name, files.sha256(path))
    pins.check_or_record(archive, used.sha256, path)
    return path, used
