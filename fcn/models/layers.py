"""Layers that torch lacks: preprocessing, fixed bilinear upsampling, seeded dropout."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fcn.data import depth
from fcn.data.split import MAX_CHANNELS

MAX_VALUE = 1e6  # absolute value of a scale, mean or standard deviation; images are 0..255
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


@dataclass(frozen=True)
class Preprocessing:
    """Input normalization: (channel * scale - mean) / std.

    order      of the first three channels; further channels keep their places, and so do one or two channels
    mean, std  one per channel, in this order
    """

    order: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != ["B", "G", "R"]:
            raise ValueError(f"the channels are {self.order[:20]!r}, not RGB in some order")
        if not 0 < len(self.mean) == len(self.std) <= MAX_CHANNELS:
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} deviations, not one for each channel")
        if not all(math.isfinite(value) and abs(value) <= MAX_VALUE for value in (self.scale, *self.mean, *self.std)):
            raise ValueError(f"a scale, mean or deviation is not a number up to {MAX_VALUE:g}")
        if not all((self.scale, *self.std)):
            raise ValueError("a scale or deviation is 0")

    def is_like(self, other: "Preprocessing") -> bool:
        """Whether the two differ at most in the mean, which depends on the training set of the weights."""
        return replace(self, mean=other.mean) == other

    def __call__(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        """image    (N, C, H, W) uint8 or float, 0..255, RGB first if the net takes RGB; C = len(mean)
        returns  the same shape in `dtype`; computed in fp32, or in fp64 if `dtype` is fp64
        """
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        pixels = image.to(exact)
        count = len(self.mean)
        places = [*map("RGB".index, self.order), *range(3, count)] if count >= 3 else range(count)
        channels = [
            (pixels[:, place] * self.scale - mean) / std
            for place, mean, std in zip(places, self.mean, self.std, strict=True)
        ]
        return torch.stack(channels, 1).to(dtype)

    def part(self, first: int, count: int) -> "Preprocessing":
        """That of some of the channels, for a net that takes only these."""
        order = self.order if first == 0 and count >= 3 else "RGB"
        span = slice(first, first + count)
        return Preprocessing(order, self.scale, self.mean[span], self.std[span])

    def extended(self, inputs: Mapping[str, int]) -> "Preprocessing":
        """That of a net with these inputs, from the normalization of RGB.

        HHA and depth are centred as by the reference if the scale is Caffe's; log depth is not scaled up to the range
        of colours there either. Every other channel is normalized as an average colour.

        inputs  channels by name
        source  nyud_layers.py
        """
        mean, std = sum(self.mean[:3]) / 3, sum(self.std[:3]) / 3
        values: list[tuple[float, float]] = []
        for name, channels in inputs.items():
            own = [(mean, std)] * channels
            if name in ("rgb", "bands") and channels >= 3 and not values:
                own[:3] = list(zip(self.mean[:3], self.std[:3], strict=True))
            elif self.scale == 1:
                own = {"hha": [(value, 1.0) for value in HHA_MEAN], "depth": [LOG_DEPTH]}.get(name, own)
            values += own
        reordered = next(iter(inputs)) in ("rgb", "bands") and len(values) >= 3
        means, stds = zip(*values, strict=True)
        return Preprocessing(self.order if reordered else "RGB", self.scale, means, stds)


HHA_MEAN = (132.431, 94.076, 118.477)
# Mean and deviation of coded depth (fcn.data.depth), so that the net sees ln(millimetres) - 7.844.
LOG_DEPTH = (depth.STEPS * (7.844 - depth.LOWEST), float(depth.STEPS))
CAFFE = Preprocessing("BGR", 1.0, (104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0))  # mean colour of ImageNet, BGR
TORCHVISION = Preprocessing("RGB", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PREPROCESSINGS = {"caffe": CAFFE, "torchvision": TORCHVISION}


def bilinear_row(size: int) -> Tensor:
    """(size,) fp64: one dimension of Caffe's bilinear filler, 1 - |x - c| / f with f = (size + 1) // 2.

    The centre c is the middle pixel of an odd size, and halfway between the two middle pixels of an even size.
    """
    factor = (size + 1) // 2
    centre = factor - 1.0 if size % 2 else factor - 0.5
    return 1 - (torch.arange(size, dtype=torch.float64) - centre).abs() / factor


def bilinear_kernel(channels: int, size: int) -> Tensor:
    """(channels, channels, size, size) fp64 bilinear kernel that upsamples each channel separately."""
    row = bilinear_row(size)
    kernel = torch.zeros(channels, channels, size, size, dtype=torch.float64)
    kernel[range(channels), range(channels)] = torch.outer(row, row)
    return kernel


class FixedUpsampling(nn.Module):
    """Fixed bilinear upsampling by `factor`, computed as two small matrix products.

    Equal to a transposed convolution with `bilinear_kernel` of size `kernel` (2·factor, or 2·factor - 1) and stride
    `factor`, cropped at `crop`. It has no parameters: a kernel in a state dict is checked against the bilinear one and
    dropped.
    """

    def __init__(self, channels: int, factor: int, kernel: int) -> None:
        super().__init__()
        self.channels, self.factor, self.kernel = channels, factor, kernel

    def forward(self, score: Tensor, crop: int, size: tuple[int, int]) -> Tensor:
        """score    (N, C, h, w)
        crop     first row and column of the full result that is kept
        returns  (N, C, *size)
        """
        rows = self._matrix(score.shape[2], crop, size[0], score)
        columns = self._matrix(score.shape[3], crop, size[1], score)
        return torch.matmul(rows, torch.matmul(score, columns.T))

    def _matrix(self, inputs: int, crop: int, outputs: int, like: Tensor) -> Tensor:
        """(outputs, inputs): weight of each input row in each output row."""
        rows = torch.arange(outputs, dtype=torch.float64, device=like.device)[:, None] + crop
        columns = self.factor * torch.arange(inputs, dtype=torch.float64, device=like.device)
        distance = (rows - columns - (self.kernel - 1) / 2).abs()  # to the centre of the input's kernel, in pixels
        return (1 - distance / self.factor).clamp(min=0).to(like.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        kernel = state_dict.get(f"{prefix}weight")
        if kernel is None:
            return
        expected = bilinear_kernel(self.channels, self.kernel)
        if kernel.shape != expected.shape or not torch.allclose(kernel.double().cpu(), expected, atol=1e-6):
            errors: list[str] = others[-1]
            errors.append(f"{prefix}weight is not the bilinear kernel; build the net with upsampling='learned'")


class LearnedUpsampling(nn.ConvTranspose2d):
    """Transposed convolution, initialized as bilinear upsampling."""

    def __init__(self, channels: int, factor: int, kernel: int) -> None:
        super().__init__(channels, channels, kernel, factor, bias=False)
        with torch.no_grad():
            self.weight.copy_(bilinear_kernel(channels, kernel))

    def forward(self, score: Tensor, crop: int, size: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """Same arguments and result shape as FixedUpsampling.forward."""
        full = super().forward(score)
        return full[:, :, crop : crop + size[0], crop : crop + size[1]]


def response_norm(x: Tensor) -> Tensor:
    """Local response normalization over five neighbouring channels, as in Caffe's AlexNet.

    torch's function uses 3-dimensional pooling, whose gradient is not deterministic on CUDA.

    x        (N, C, H, W)
    returns  x / (1 + 1e-4 / 5 · sum of the squares of channels c - 2 .. c + 2) ** 0.75
    """
    squares = nn.functional.pad(x * x, (0, 0, 0, 0, 2, 2))
    total = sum((squares[:, i : i + x.shape[1]] for i in range(1, 5)), squares[:, : x.shape[1]])
    return x / (1 + 1e-4 / 5 * total) ** 0.75


class Dropout(nn.Module):
    """Element-wise dropout, as in Caffe, with an optional random generator per image.

    `generators`, one per image of the next batch, make the mask independent of how a batch is distributed over
    processes and of earlier draws; None uses torch's global generator.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generators: Sequence[torch.Generator] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        if self.generators is None:
            return nn.functional.dropout(x, self.p)
        keep = torch.empty(x.shape, device=x.device)
        for image, generator in zip(keep, self.generators, strict=True):
            image.bernoulli_(1 - self.p, generator=generator)
        return x * keep.to(x.dtype) / (1 - self.p)
