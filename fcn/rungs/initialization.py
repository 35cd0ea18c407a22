"""Initialization of a rung: builds its net, loads the initial weights, and summarizes both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fcn import models
from fcn.data.split import Split
from fcn.ladder import BY_STRIDE
from fcn.models import Net, surgery
from fcn.models.layers import PREPROCESSINGS, Preprocessing
from fcn.params import Params, Size
from fcn.rungs import compatibility
from fcn.runtime import files, machine
from fcn.runtime.distributed import SINGLE, Group
from fcn.runtime.errors import UserError, counted
from fcn.training.steps import rate
from fcn.weights import loading, model_file
from fcn.weights.model_file import Published


@dataclass(frozen=True)
class Initialized:
    """A rung before its first step.

    architecture   arguments of `fcn.models.build`
    table          (layer, origin) for each layer
    parent         sha256 of the parent's model file, or None if initialized from a published net
    published      the published net, or None
    """

    net: Net
    architecture: dict[str, Any]
    table: list[tuple[str, str]]
    parent: str | None
    published: Published | None


def initialize(
    train: Split, stride: int, params: Params, parent: Path, published: Path, group: Group = SINGLE
) -> Initialized:
    """Builds the net of stride `stride` and loads its initial weights, on the training device.

    parent      model file of the coarser net, or of the backbone
    published   folder with the model file of the published net that `init` names, if it names one
    """
    _check(train, stride, params, group)
    parent_state, parent_meta = model_file.load(parent)
    architecture = _architecture(train, stride, params)
    net = _net(architecture, params, parent_meta, train.inputs)
    init = params.rung(stride).init
    if init == "parent":
        generator = torch.Generator().manual_seed(params.seed * 64 + stride)
        table = surgery.transplant(net, parent_state, init_std=params.model.init_std, generator=generator)
        used = None
    else:
        used = fill(net, architecture, init, published / f"{init}.safetensors")
        table = [(layer, init) for layer in surgery.layers(net.state_dict())]
    net.to(machine.device()).to(memory_format=torch.channels_last)
    if net.backbone.norm and group.size > 1:
        if machine.device().type != "cuda":
            raise UserError("batch norm needs the whole batch in one process on a CPU; set FCN_PROCESSES=1")
        nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
    return Initialized(net, architecture, table, None if used else files.sha256(parent), used)


def fill(net: Net, architecture: Mapping[str, Any], init: str, path: Path) -> Published | None:
    """Loads published weights into a net, and takes over the mean colour of their preprocessing.

    raises   UserError if they belong to another net
    """
    state, meta = model_file.load(path)
    for name in ("stride", "at_once", "num_classes", "geometric", "inputs", "fusion"):
        theirs, ours = meta.architecture.get(name), architecture.get(name)
        if theirs != ours or (name == "inputs" and list(theirs or ()) != list(ours or ())):
            raise UserError(f"{init} has {name}: {theirs}, this FCN-{net.stride}s has {ours}; run `fcn check`")
    if not net.preprocessing.is_like(meta.preprocessing):
        known = {name: each.extended(net.inputs) for name, each in PREPROCESSINGS.items()}
        matching = [name for name, each in known.items() if each.is_like(meta.preprocessing)]
        raise UserError(f"{init} expects model.preprocessing: {' or '.join(matching) or meta.preprocessing}")
    loading.fill(net, state, init)
    net.preprocessing = meta.preprocessing
    return meta.published


def _net(architecture: dict[str, Any], params: Params, parent: model_file.Meta, inputs: Mapping[str, int]) -> Net:
    preprocessings = {name: each.extended(inputs) for name, each in PREPROCESSINGS.items()}
    expected, rung = preprocessings[params.model.preprocessing], params.rung(architecture["stride"])
    if rung.init == "parent":
        theirs = parent.preprocessing
        if "stride" not in parent.architecture:  # a backbone, which sees RGB
            theirs = theirs.extended(inputs)
        if not expected.is_like(theirs):
            matching = [name for name, each in PREPROCESSINGS.items() if each.is_like(parent.preprocessing)]
            raise UserError(
                f"the parent's weights expect {parent.preprocessing}, model.preprocessing "
                f"{params.model.preprocessing!r} is {expected}; set model.preprocessing: {' or '.join(matching) or '?'}"
            )
        expected = theirs
    return models.build(**architecture, preprocessing=expected)


def _check(train: Split, stride: int, params: Params, group: Group) -> None:
    """Checks params against the training split before the first step."""
    rung = params.rung(stride)
    compatibility.check_arithmetic(params, group.size)
    compatibility.check_class_weights(params.data.class_weights, len(train.labels.names))
    compatibility.check_batch_norm(rung, params.model.backbone, BY_STRIDE[stride].section)
    sizes = ((train.name(i), Size(width, height)) for i in range(len(train)) for height, width in [train.size(i)])
    compatibility.check_images(rung, params, sizes, processes=group.size)


def _size(train: Split, params: Params) -> tuple[int, int]:
    """Height and width in pixels of a training input; of the first image if the sizes differ."""
    crop = params.data.crop
    return (crop.height, crop.width) if crop else train.size(0)


def _architecture(train: Split, stride: int, params: Params) -> dict[str, Any]:
    architecture: dict[str, Any] = {
        "num_classes": len(train.labels.names),
        "stride": stride,
        "backbone": params.model.backbone,
        "at_once": stride == 8 and params.model.at_once,  # only FCN-8s uses it
        "pad": params.model.pad,
        "upsampling": params.model.upsampling,
        "dropout": params.model.dropout,
    }
    if train.geometric:
        architecture["geometric"] = len(train.geometric.names)
    if train.inputs != {"rgb": 3}:
        architecture["inputs"] = train.inputs
    if params.model.fusion == "late" and len(train.inputs) > 1:
        architecture["fusion"] = "late"
    return architecture


def summary(
    stride: int, params: Params, train: Split, table: list[tuple[str, str]], preprocessing: Preprocessing
) -> str:
    """Header printed before training: steps, learning rate and origin of each layer.

    The rate is given for both loss reductions, because it is meaningless without its reduction.
    """
    rung = params.rung(stride)
    height, width = _size(train, params)
    pixels = height * width * params.batch_size
    lines = [
        f"FCN-{stride}s: {counted(rung.iterations, 'step')} of {counted(params.batch_size, 'image')}, "
        f"{params.optimizer}, {params.precision}"
    ]
    if not rung.iterations:
        lines = [f"FCN-{stride}s: surgery only, no steps"]
    elif params.optimizer == "sgd":
        lr = rate(rung, params.lr, 1)
        both = {"sum": ("summed", lr * pixels, "mean"), "mean": ("mean", lr / pixels, "sum")}
        reduction, other_lr, other = both[params.loss]
        details = f"at {height}×{width}, momentum {params.momentum:g}"
        lines.append(f"lr {lr:.3g} on the {reduction} loss = {other_lr:.2g} on the {other} {details}")
    else:
        lr = rate(rung, params.lr, 1)
        lines.append(f"lr {lr:.3g} on the {params.loss} loss; Adam's step size hardly depends on the reduction")
    if preprocessing != PREPROCESSINGS[params.model.preprocessing].extended(train.inputs):
        names = [*preprocessing.order, *map(str, range(4, len(preprocessing.mean) + 1))]
        means = ", ".join(f"{c} {mean:g}" for c, mean in zip(names, preprocessing.mean, strict=False))
        lines.append(f"mean colour {means}: that of the weights it starts from")
    for origin in dict.fromkeys(origin for _, origin in table):
        names = [layer for layer, layer_origin in table if layer_origin == origin]
        # An inception's layers have a name in common: inception_3a/1x1.
        groups = dict.fromkeys(f"{name.partition('/')[0]}/*" if "/" in name else name for name in names)
        lines.append(f"{origin:8} {' '.join(groups)}")
    return "\n".join(lines)
