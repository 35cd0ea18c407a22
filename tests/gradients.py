"""Gradients against finite differences."""

import pytest
import torch
from torch import Tensor, nn


def check(net: nn.Module, image: Tensor) -> None:
    """Compares the derivative along a random direction of all weights with central differences, in fp64.

    image   (N, 3, H, W) fp64; the net has three classes
    """
    direction = torch.randn_like(image)
    steps = {name: torch.randn_like(parameter) for name, parameter in net.named_parameters()}

    def value(step: float) -> Tensor:
        moved = {name: parameter + step * steps[name] for name, parameter in net.named_parameters()}
        logits: Tensor = torch.func.functional_call(net, moved, image)
        return (logits * direction).sum()

    value(0.0).backward()
    expected = sum(float((parameter.grad * steps[name]).sum()) for name, parameter in net.named_parameters())  # type: ignore[operator]
    with torch.no_grad():
        measured = float(value(1e-7) - value(-1e-7)) / 2e-7
    assert measured == pytest.approx(expected, rel=1e-4)
