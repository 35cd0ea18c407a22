"""Cost of training and scoring: FLOPs, and an estimate of the time on this device."""

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fcn import models
from fcn.models.layers import PREPROCESSINGS
from fcn.params import CHANNELS, Params
from fcn.runtime import machine
from fcn.runtime.errors import counted


def rung_flops(params: Params, stride: int, forward: int) -> int:
    """FLOPs of training a rung. A backward pass costs twice a forward pass, or nothing if the backbone is frozen."""
    rung = params.rung(stride)
    passes = 1 if rung.freeze == "backbone" else 3
    return rung.iterations * params.batch_size * passes * forward


def forward_flops(params: Params, num_classes: int, stride: int, height: int, width: int) -> int:
    """Multiplications and additions of one forward pass of one image."""
    model = params.model
    inputs = {str(name): CHANNELS.get(name, 3) for name in params.data.inputs}  # bands are not known yet
    with torch.device("meta"):
        net = models.build(
            inputs,
            model.fusion,
            num_classes=num_classes,
            stride=stride,
            backbone=model.backbone,
            pad=model.pad,
            upsampling=model.upsampling,
            preprocessing=PREPROCESSINGS[model.preprocessing].extended(inputs),
        ).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.empty(1, sum(inputs.values()), height, width))
    return int(counter.get_total_flops())


def measured_speed() -> float:
    """FLOP/s of the forward pass of a middle layer of VGG16 in fp32, measured on the training device."""
    device = machine.device()
    layer = nn.Conv2d(256, 256, 3, padding=1, device=device).to(memory_format=torch.channels_last)
    image = torch.randn(1, 256, 64, 64, device=device).to(memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad():
        for _ in range(12):
            start = time.perf_counter()
            layer(image).sum().item()
            best = min(best, time.perf_counter() - start)
    return 2 * 256 * 256 * 9 * 64 * 64 / best


def duration(seconds: float) -> str:
    """A duration in days, hours, minutes or seconds, whichever suits its length."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return counted(round(seconds / length), unit)
    return counted(round(seconds), "second")
