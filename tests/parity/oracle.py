"""The oracle: torchfcn's nets with random weights, its loss and its parameter groups, and what both nets are fed."""

import importlib
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fcn.data.labels import VOID
from fcn.data.sampling import SampledImage
from fcn.models import FCN

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".oracle"

# measure(kind, case, error, tolerance)
Measure = Callable[[str, str, float, float], None]


@dataclass(frozen=True)
class Net:
    """One of the four nets: torchfcn's class, and the arguments that make it ours."""

    oracle: str
    stride: int
    at_once: bool = False


NETS = {
    "32s": Net("FCN32s", 32),
    "16s": Net("FCN16s", 16),
    "8s": Net("FCN8s", 8),
    "8s at-once": Net("FCN8sAtOnce", 8, at_once=True),
}
MEAN_BGR = (
    104.00699,
    116.66877,
    122.67892,
)  # the reference's voc_layers.py users: `mean=(...)` in their net.py


@dataclass(frozen=True)
class Pair:
    """The oracle's net and ours, with the same weights."""

    name: str
    oracle: Any
    ours: FCN


def load() -> tuple[Any, Any]:
    """torchfcn's module of nets and its module of loss and trainer.

    Its own `__init__` asks for packages that have nothing to do with either; empty modules take
    their place. `import fcn` in it finds ours, which is harmless: it only downloads with it.
    """
    if not (FOLDER / "torchfcn").is_dir():
        pytest.fail(f"{FOLDER} is missing; run make parity", pytrace=False)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # distutils, in the trainer
        for name in ("torchfcn", "pytz", "skimage", "skimage.io"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["torchfcn"].__path__ = [str(FOLDER / "torchfcn")]
        return importlib.import_module("torchfcn.models"), importlib.import_module("torchfcn.trainer")


def fill(oracle: nn.Module, *, boost: bool, seed: int) -> None:
    """Random weights that keep every map at about the size of one; torchfcn's score layers are zero.

    He's deviation in the trunk, whose input is about 75 grey levels large. `boost` makes up for what
    at-once takes from pool4 and pool3, so that logits show an error in either.
    """
    generator = torch.Generator().manual_seed(seed)
    gain = {"conv1_1": 2**0.5 / 75} | dict.fromkeys(("score_fr", "score_pool4", "score_pool3"), 1.0)
    if boost:
        gain |= {"score_pool4": 1 / 0.01, "score_pool3": 1 / 0.0001}
    with torch.no_grad():
        for name, layer in oracle.named_children():
            if isinstance(layer, nn.Conv2d):
                inputs = layer.weight[0].numel()
                layer.weight.normal_(0, gain.get(name, 2**0.5) * inputs**-0.5, generator=generator)
                assert layer.bias is not None
                layer.bias.normal_(0, 0.1, generator=generator)


WIDTHS = {64: 8, 128: 12, 256: 16, 512: 20, 4096: 32}


def narrow(oracle: nn.Module) -> None:
    """Puts narrow layers in the place of VGG16's, so that fp64 training takes seconds."""
    for name, layer in list(oracle.named_children()):
        if isinstance(layer, nn.Conv2d):
            inputs = WIDTHS.get(layer.in_channels, layer.in_channels)
            outputs = WIDTHS.get(layer.out_channels, layer.out_channels)
            assert isinstance(layer.padding, tuple)
            setattr(oracle, name, nn.Conv2d(inputs, outputs, layer.kernel_size[0], padding=layer.padding[0]))


def image(height: int, width: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W, 3) uint8 RGB noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawn(height: int, width: int, classes: int, void: float, seed: int) -> SampledImage:
    """A random image with a mask of which the fraction `void` is void."""
    rng = np.random.default_rng((seed, 1))
    mask = rng.integers(0, classes, (height, width), dtype=np.uint8)
    mask[rng.random(mask.shape) < void] = VOID
    return SampledImage(f"image{seed}", image(height, width, seed), mask, seed)


def bgr(pixels: np.ndarray[Any, np.dtype[np.uint8]], dtype: torch.dtype) -> Tensor:
    """(1, 3, H, W): what torchfcn expects of an RGB image, BGR without its mean."""
    array = pixels[:, :, ::-1].astype(np.float64) - np.array(MEAN_BGR)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))[None].to(dtype)


def rgb(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """(1, 3, H, W) uint8: what our nets expect of it."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a fraction of the largest value."""
    assert ours.shape == theirs.shape
    ours, theirs = ours.detach().double(), theirs.detach().double()
    largest = torch.linalg.vector_norm  # makes no copy, unlike abs().max(): fc6's gradient is large
    return float(largest(ours - theirs, torch.inf) / largest(theirs, torch.inf))


def gradients(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and gradient of all weights and biases but those of upsampling, which are not trained."""
    for name, parameter in net.named_parameters():
        if not name.startswith("up"):
            assert parameter.grad is not None, f"{name} has no gradient"
            yield name, parameter.grad


def groups(
    oracle: nn.Module, lr: float, *, decay: float = 5e-4, bias_factor: float = 2, bias_decay: float = 0
) -> list[dict[str, Any]]:
    """As torchfcn's examples: biases learn twice as fast and do not decay; upsampling is not trained."""
    layers = [layer for layer in oracle.modules() if isinstance(layer, nn.Conv2d)]
    return [
        {"params": [layer.weight for layer in layers], "lr": lr, "weight_decay": decay},
        {"params": [layer.bias for layer in layers], "lr": lr * bias_factor, "weight_decay": bias_decay},
    ]


def loss_sum(trainer: Any, oracle: nn.Module, images: Iterable[SampledImage], dtype: torch.dtype) -> Tensor:
    """torchfcn's own loss, summed over the valid pixels of all images; its void is -1."""
    total = torch.zeros((), dtype=dtype)
    for one in images:
        mask = torch.from_numpy(np.where(one.mask == VOID, -1, one.mask.astype(np.int64)))[None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # distutils, again
            total = total + trainer.cross_entropy2d(oracle(bgr(one.image, dtype)), mask, size_average=False)
    return total
