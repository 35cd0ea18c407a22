"""The published nets of the Caffe reference, and the model files that initialize rungs from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fcn.io import caffemodel, download, pins
from fcn.io.archive import Archive, https_or_http
from fcn.models import FCN, State
from fcn.models.backbones import BACKBONES
from fcn.models.layers import CAFFE, Preprocessing
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError
from fcn.weights import loading, model_file
from fcn.weights.model_file import Published


@dataclass(frozen=True)
class Net:
    """An FCN of the reference: pad 100, fixed upsampling.

    dataset         data set whose classes it scores, in the order of that data set
    classes         number of classes
    preprocessing   BGR minus the mean colour of its training set
    note            what it has that no data set here has; if set, no rung can be initialized from it

    source   net.py and *_layers.py in the reference's folders
    """

    stride: int
    dataset: str
    classes: int
    preprocessing: Preprocessing = CAFFE
    at_once: bool = False
    note: str = ""
    backbone: str = "vgg16"


def _with_mean(blue: float, green: float, red: float) -> Preprocessing:
    return Preprocessing("BGR", 1.0, (blue, green, red), (1.0, 1.0, 1.0))


SIFTFLOW, NYUD = _with_mean(114.578, 115.294, 108.353), _with_mean(116.190, 97.203, 92.318)
CONTEXT = _with_mean(104.007, 116.669, 122.679)
# Horizontal disparity, height above ground and angle with gravity, as an image; not reversed to BGR.
HHA = Preprocessing("RGB", 1.0, (132.431, 94.076, 118.477), (1.0, 1.0, 1.0))
BACKGROUND = "scores 60 classes (class 0 is all that is none of the 59)"
NETS = {
    "fcn32s-heavy-pascal": Net(32, "voc", 21),
    "fcn16s-heavy-pascal": Net(16, "voc", 21),
    "fcn8s-heavy-pascal": Net(8, "voc", 21),
    "fcn8s-atonce-pascal": Net(8, "voc", 21, at_once=True),
    "fcn-alexnet-pascal": Net(32, "voc", 21, backbone="alexnet"),
    "siftflow-fcn32s-heavy": Net(32, "siftflow", 33, SIFTFLOW),
    "siftflow-fcn16s-heavy": Net(16, "siftflow", 33, SIFTFLOW),
    "siftflow-fcn8s-heavy": Net(8, "siftflow", 33, SIFTFLOW),
    "nyud-fcn32s-color-heavy": Net(32, "nyud", 40, NYUD),
    "nyud-fcn32s-hha-heavy": Net(32, "nyud", 40, HHA, note="takes HHA images, computed from depth"),
    "pascalcontext-fcn32s-heavy": Net(32, "context59", 60, CONTEXT, note=BACKGROUND),
    "pascalcontext-fcn16s-heavy": Net(16, "context59", 60, CONTEXT, note=BACKGROUND),
    "pascalcontext-fcn8s-heavy": Net(8, "context59", 60, CONTEXT, note=BACKGROUND),
}


INITS = [name for name, net in NETS.items() if not net.note]  # nets that a rung can be initialized from
# Digests published by other projects.
# source   testdata/dnn/download_models.py of opencv/opencv_extra
SHA1 = {"fcn8s-heavy-pascal": "c449ea74dd7d83751d1357d6a8c323fcf4038962"}


def archive(name: str) -> Archive:
    """The download of a net in NETS."""
    licence = "FCN's authors: unrestricted use (BVLC model license)"
    file = f"{name}.caffemodel"
    return Archive(
        file, https_or_http(f"dl.caffe.berkeleyvision.org/{file}"), licence, sha1=SHA1.get(name), kind="weights"
    )


def architecture(name: str) -> dict[str, Any]:
    """Arguments of FCN for a net in NETS."""
    theirs = NETS[name]
    return {
        "num_classes": theirs.classes,
        "stride": theirs.stride,
        "backbone": theirs.backbone,
        "at_once": theirs.at_once,
        "pad": 100,
        "upsampling": "fixed",
        "dropout": 0.5,
    }


def make(name: str, out: Path) -> None:
    """Writes the model file of a published net, for initializing a rung; downloads the net if necessary.

    raises   UserError listing every name, shape and value that does not match the net
    """
    theirs = NETS[name]
    state, used = state_dict(name, archive(name), theirs.backbone, at_once=theirs.at_once)
    net = FCN(**architecture(name), preprocessing=theirs.preprocessing)
    loading.fill(net, state, name)
    meta = model_file.Meta(
        architecture=architecture(name),
        preprocessing=theirs.preprocessing,
        labels=None,
        parent=None,
        published=used,
        iterations=0,
        threads=torch.get_num_threads(),
        params={},
    )
    model_file.save(out, net.state_dict(), meta)


def check(name: str, stride: int, backbone: str, at_once: bool | None = None, classes: int | None = None) -> None:
    """raises   UserError if there are no published weights of this name, or they do not fit such a net

    at_once, classes   of the net; None if not known yet
    """
    if name not in NETS:
        raise UserError(f"params.yaml: init is {name!r}; choose from parent, {', '.join(INITS)}")
    theirs = NETS[name]
    if name not in INITS:
        raise UserError(
            f"{name} {theirs.note}, which no data set here has; `fcn import` makes "
            f"a model file of it for prediction; for init choose from parent, {', '.join(INITS)}"
        )
    if theirs.stride != stride:
        raise UserError(f"{name} is FCN-{theirs.stride}s and cannot initialize FCN-{stride}s")
    if at_once not in (None, theirs.at_once):
        raise UserError(f"{name} expects model.at_once: {str(theirs.at_once).lower()}")
    if classes not in (None, theirs.classes):
        raise UserError(f"{name} scores {theirs.classes} classes of {theirs.dataset}, the data set has {classes}")
    if theirs.backbone != backbone:
        raise UserError(f"{name} expects model.backbone: {theirs.backbone}")


def find(archive: Archive) -> Path | None:
    """A local file of published weights: the download, or the model file written by `fcn import`."""
    return download.find(archive) or next(filter(Path.is_file, [imported(archive)]), None)


def imported(archive: Archive) -> Path:
    """Where `fcn import` writes its model file, and `make` and `backbone` look for it."""
    return machine.root() / ".fcn" / "downloads" / f"{archive.name.removesuffix('.caffemodel')}.safetensors"


def state_dict(name: str, archive: Archive, backbone: str, *, at_once: bool = False) -> tuple[State, Published]:
    """The published weights with this project's layer names, downloaded if necessary, and the file used."""
    path, used = locate(name, archive)
    if path != imported(archive):
        return caffemodel.state_dict(caffemodel.read(path), at_once=at_once, fc6=BACKBONES[backbone].kernel), used
    return model_file.load(path)[0], used


def locate(name: str, archive: Archive) -> tuple[Path, Published]:
    """The file with these weights, downloaded if necessary, and its published origin.

    For a file written by `fcn import`, the origin is the file that was imported.

    raises   UserError if this is not the same file as in earlier runs
    """
    path = find(archive)
    if path == imported(archive):
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
