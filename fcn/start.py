"""How a rung starts: its net, where each layer comes from, and what is said of both before the first step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fcn import files, machine, published, weights
from fcn.data import Split
from fcn.errors import UserError, counted
from fcn.layers import PREPROCESSINGS
from fcn.models import FCN
from fcn.params import Params
from fcn.processes import ALONE, Group
from fcn.training import rate


@dataclass(frozen=True)
class Start:
    """A rung before its first step.

    architecture   FCN's arguments
    table          (layer, where it comes from) for each layer
    parent         sha256 of the file it starts from, unless that is a published net
    published      the published net's name, if it starts from one
    """

    net: FCN
    architecture: dict[str, Any]
    table: list[tuple[str, str]]
    parent: str | None
    published: str | None


def start(train: Split, stride: int, params: Params, parent: Path, group: Group = ALONE) -> Start:
    """The net of stride `stride` with the weights that it starts from, on the device that trains it.

    parent   model file of the coarser net, or of the backbone
    """
    parent_state, parent_meta = weights.load(parent)
    architecture = _architecture(train, stride, params)
    net = _net(train, architecture, params, parent_meta)
    init = params.rung(stride).init
    if init == "parent":
        generator = torch.Generator().manual_seed(params.seed * 64 + stride)
        table = weights.transplant(net, parent_state, init_std=params.model.init_std, generator=generator)
    else:
        published.load(net, init)
        table = [(layer, init) for layer in weights.layers(net.state_dict())]
    net.to(machine.device()).to(memory_format=torch.channels_last)
    if net.backbone.norm and group.size > 1:
        if machine.device().type != "cuda":
            raise UserError("batch norm needs the whole batch in one process on a CPU; set FCN_PROCESSES=1")
        nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
    own = init == "parent"
    return Start(net, architecture, table, files.sha256(parent) if own else None, None if own else init)


def _net(train: Split, architecture: dict[str, Any], params: Params, parent: weights.Meta) -> FCN:
    wanted, rung = PREPROCESSINGS[params.model.preprocessing], params.rung(architecture["stride"])
    if rung.init == "parent" and parent.preprocessing != wanted:
        raise UserError(
            f"the parent's weights expect {parent.preprocessing}, model.preprocessing "
            f"{params.model.preprocessing!r} is {wanted}; they must agree"
        )
    net = FCN(**architecture, preprocessing=wanted)
    if net.backbone.norm and rung.accumulate > 1:
        raise UserError(
            "batch norm takes its statistics over one pass, so accumulation changes them; set accumulate: 1"
        )
    if "fc" in net.backbone.norm and params.batch_size == 1 and max(_size(train, params)) <= 32:
        raise UserError("batch norm needs more than the one value of fc6 here; set a batch_size of 2 or larger images")
    return net


def _size(train: Split, params: Params) -> tuple[int, int]:
    """Height and width of what a step sees, in pixels; of the first image if they differ."""
    if params.data.crop == "none":
        return train.size(0)
    width, height = map(int, params.data.crop.split("x"))
    return height, width


def _architecture(train: Split, stride: int, params: Params) -> dict[str, Any]:
    return {
        "num_classes": len(train.labels.names),
        "stride": stride,
        "backbone": params.model.backbone,
        "at_once": params.model.at_once and stride == 8,
        "pad": params.model.pad,
        "upsampling": params.model.upsampling,
        "dropout": params.model.dropout,
    }


def summary(stride: int, params: Params, train: Split, table: list[tuple[str, str]]) -> str:
    """What is trained, at which rate in both units, since one alone means nothing, and where each layer comes from."""
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
        here, other, there = both[params.loss]
        where = f"at {height}×{width}, momentum {params.momentum:g}"
        lines.append(f"lr {lr:.3g} on the {here} loss = {other:.2g} on the {there} {where}")
    else:
        lr = rate(rung, params.lr, 1)
        lines.append(f"lr {lr:.3g} on the {params.loss} loss; Adam's step hardly depends on which")
    if rung.init != "parent":
        lines.append(published.archive(rung.init).notice)
    for what in dict.fromkeys(fate for _, fate in table):
        lines.append(f"{what:8} {' '.join(layer for layer, fate in table if fate == what)}")
    return "\n".join(lines)
