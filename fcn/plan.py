"""What an experiment would fetch, train and take, before any of it is begun."""

import time
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fcn import imagenet, machine, published, sources, states
from fcn.data import Split
from fcn.errors import UserError
from fcn.layers import PREPROCESSINGS
from fcn.models import FCN
from fcn.params import STRIDES, Params
from fcn.sources import Archive

GPU = 25e12  # FLOP/s that fp32 training with TF32 products may reach on one data-centre GPU: stated, not measured
NATIVE = (375, 500)  # height and width taken for images whose own size is not known yet: VOC's commonest


def describe(params: Params) -> Iterator[str]:
    """Lines for a person: downloads, rungs, and about how long they take on this machine."""
    for archive in archives(params):
        size = f"{archive.size / 1e9:.2f} GB" if archive.size else "size not published"
        place = published.find(archive)
        where = f"here, {place}" if place else f"from {archive.urls[0]}"
        yield f"{archive.name}: {size}, {where}; {archive.licence}"
    height, width, known = image_size(params)
    yield f"images of {width}x{height}" + ("" if known else ", taken as their size until resize has seen them")
    speed = measured_speed()
    forward = {stride: forward_flops(params, stride, height, width) for stride in STRIDES}
    training = {stride: rung_flops(params, stride, forward[stride]) for stride in STRIDES}
    for stride in STRIDES:
        rung = params.rung(stride)
        start = f"starts from {rung.init}" if rung.init != "parent" else ""
        train = f"{rung.iterations} steps of {params.batch_size} at lr {params.lr * rung.lr_factor:.3g}"
        what = train + f", about {duration(training[stride] / speed)}" if rung.iterations else "not trained"
        yield f"FCN-{stride}s: {what}{', ' if start else ''}{start}"
    total = sum(training.values())
    yield f"training takes about {duration(total / speed)} here, at {speed / 1e9:.0f} GFLOP/s as measured now"
    there = duration(total / GPU)
    yield f"on one data-centre GPU at {GPU / 1e12:.0f} TFLOP/s: about {there}, computed, not measured"
    here, there = (f"{sum(forward.values()) / rate:.2g} seconds" for rate in (speed, GPU))
    yield f"to score an image with the three nets takes about {here} here, {there} there"
    yield from params.warnings()


def archives(params: Params) -> list[Archive]:
    """Of the data set, of the backbone and of published nets."""
    found = list(sources.get(params.data.dataset).archives(params.data))
    if params.model.weights != "none":
        found.append(imagenet.archive(params.model.backbone, params.model.weights))
    return found + [published.archive(params.rung(s).init) for s in STRIDES if params.rung(s).init in published.NETS]


def image_size(params: Params) -> tuple[int, int, bool]:
    """Height and width of what a step sees, and whether they are known."""
    for wanted in (params.data.crop, params.data.size.train, params.data.tile):
        if isinstance(wanted, str) and "x" in wanted:
            width, height = map(int, wanted.split("x"))
            return height, width, True
    with suppress(UserError):  # nothing is packed, or something else
        return *Split(states.packed(params), "train").size(0), True
    return *getattr(sources.get(params.data.dataset), "SIZE", NATIVE), False


def rung_flops(params: Params, stride: int, forward: int) -> int:
    """Of a rung's training: the way back takes twice as many as the way there, or none if the backbone is frozen."""
    rung = params.rung(stride)
    passes = 1 if rung.freeze == "backbone" else 3
    return rung.iterations * params.batch_size * passes * forward


def forward_flops(params: Params, stride: int, height: int, width: int) -> int:
    """Multiplications and additions of one image's way through the net."""
    model = params.model
    with torch.device("meta"):
        net = FCN(
            len(sources.labels(params.data).names),
            stride,
            model.backbone,
            pad=model.pad,
            upsampling=model.upsampling,
            preprocessing=PREPROCESSINGS[model.preprocessing],
        ).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.empty(1, 3, height, width))
    return int(counter.get_total_flops())


def measured_speed() -> float:
    """FLOP/s of a middle layer of VGG16, forward, in fp32, on the device that would train."""
    device = machine.device()
    layer = nn.Conv2d(256, 256, 3, padding=1, device=device).to(memory_format=torch.channels_last)
    image = torch.randn(1, 256, 64, 64, device=device).to(memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad():
        for _ in range(12):
            began = time.perf_counter()
            layer(image).sum().item()
            best = min(best, time.perf_counter() - began)
    return 2 * 256 * 256 * 9 * 64 * 64 / best


def duration(seconds: float) -> str:
    """In the unit that a person would use."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
