"""The layers that torch does not have: preprocessing, bilinear upsampling that is fixed, seeded dropout."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LARGEST = 1e6  # of the numbers of a preprocessing: images are 0..255
STRIP = 1 << 22  # values of a strip of resized logits
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


@dataclass(frozen=True)
class Preprocessing:
    """What the first layer expects: (channel * scale - mean) / std, channels in this order."""

    order: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if sorted(self.order) != ["B", "G", "R"]:
            raise ValueError(f"the channels are {self.order[:20]!r}, not RGB in some order")
        if not all(math.isfinite(value) and abs(value) <= LARGEST for value in (self.scale, *self.mean, *self.std)):
            raise ValueError(f"a scale, mean or deviation is not a number up to {LARGEST:g}")
        if not all((self.scale, *self.std)):
            raise ValueError("a scale or deviation is 0")

    def is_like(self, other: "Preprocessing") -> bool:
        """Whether the two differ in nothing but the mean, which is that of what the weights were trained on."""
        return replace(self, mean=other.mean) == other

    def __call__(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        """image    (N, 3, H, W) RGB, 0..255, uint8 or float
        returns  the same shape in `dtype`, reckoned in fp32, or fp64 if that is asked for
        """
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        pixels = image.to(exact)
        channels = [
            (pixels[:, "RGB".index(c)] * self.scale - mean) / std
            for c, mean, std in zip(self.order, self.mean, self.std, strict=True)
        ]
        return torch.stack(channels, 1).to(dtype)


CAFFE = Preprocessing("BGR", 1.0, (104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0))  # VOC's mean colour
TORCHVISION = Preprocessing("RGB", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PREPROCESSINGS = {"caffe": CAFFE, "torchvision": TORCHVISION}


def bilinear_row(size: int) -> Tensor:
    """(size,) fp64: one side of Caffe's bilinear filler, (1 - |x - c| / f) with f = (size + 1) // 2.

    c is the middle pixel of an odd size and lies between the two middle ones of an even size.
    """
    factor = (size + 1) // 2
    centre = factor - 1.0 if size % 2 else factor - 0.5
    return 1 - (torch.arange(size, dtype=torch.float64) - centre).abs() / factor


def bilinear_kernel(channels: int, size: int) -> Tensor:
    """(channels, channels, size, size) fp64: each channel upsampled by itself."""
    row = bilinear_row(size)
    kernel = torch.zeros(channels, channels, size, size, dtype=torch.float64)
    kernel[range(channels), range(channels)] = torch.outer(row, row)
    return kernel


class Axis(NamedTuple):
    """One side of a map that is resized: each pixel of the result lies between two of the map's.

    lower, upper   (n,) int64, the two
    fraction       (n,) fp64, how far it is from the lower one to the upper one, 0..1
    """

    lower: Tensor
    upper: Tensor
    fraction: Tensor

    def part(self, first: int, last: int) -> "tuple[slice, Axis]":
        """The results whose lower pixel is one of first..last (excluded), and their axis counted from `first`."""
        start, stop = torch.searchsorted(self.lower, torch.tensor([first, last])).tolist()
        own = slice(start, stop)
        return own, Axis(self.lower[own] - first, self.upper[own] - first, self.fraction[own])


def axis(pixels: int, result: int) -> Axis:
    """A side of `pixels` brought to `result`: as torch's interpolate, bilinear, the edges of both aligned."""
    places = (torch.arange(result, dtype=torch.float64) + 0.5) * pixels / result - 0.5
    places = places.clamp(0, pixels - 1)
    lower = places.long()
    return Axis(lower, (lower + 1).clamp(max=pixels - 1), places - lower)


def resized(maps: Tensor, rows: Axis, columns: Axis) -> Iterator[tuple[int, Tensor]]:
    """Bilinear, in strips, so that the whole result, which may be large, is never there.

    maps     (C, h, w)
    yields   the first row of each strip, and the strip, (C, n, W)
    """
    device, width = maps.device, len(columns.lower)
    left, right, across = (part.to(device) for part in columns)
    height = max(1, STRIP // max(1, len(maps) * width))
    for top in range(0, len(rows.lower), height):
        own = slice(top, top + height)
        first, last = int(rows.lower[own][0]), int(rows.upper[own][-1])
        wide = maps[:, first : last + 1]
        wide = torch.lerp(wide[..., left], wide[..., right], across.to(maps.dtype))
        above, below = ((part[own] - first).to(device) for part in (rows.lower, rows.upper))
        down = rows.fraction[own, None].to(device, maps.dtype)
        yield top, torch.lerp(wide[:, above], wide[:, below], down)


class FixedUpsampling(nn.Module):
    """Bilinear upsampling by `factor`, as two small products, rows then columns; nothing to learn.

    Equal to a transposed convolution of kernel 2·factor and stride `factor` with `bilinear_kernel`,
    cut out at `crop`. Owns no parameter: a kernel in a state dict is compared and left out.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.channels, self.factor = channels, factor

    def forward(self, score: Tensor, crop: int, size: tuple[int, int]) -> Tensor:
        """score    (N, C, h, w)
        crop     first row and column of the full result that is kept
        returns  (N, C, *size)
        """
        rows = self._matrix(score.shape[2], crop, size[0], score)
        columns = self._matrix(score.shape[3], crop, size[1], score)
        return torch.matmul(rows, torch.matmul(score, columns.T))

    def _matrix(self, inputs: int, crop: int, outputs: int, like: Tensor) -> Tensor:
        """(outputs, inputs): the weight of each input in each output."""
        rows = torch.arange(outputs, dtype=torch.float64, device=like.device)[:, None] + crop
        columns = self.factor * torch.arange(inputs, dtype=torch.float64, device=like.device)
        away = (rows - columns - (self.factor - 0.5)).abs()  # from the middle of the input's kernel, in pixels
        return (1 - away / self.factor).clamp(min=0).to(like.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        kernel = state_dict.get(f"{prefix}weight")
        if kernel is None:
            return
        expected = bilinear_kernel(self.channels, 2 * self.factor)
        if kernel.shape != expected.shape or not torch.allclose(kernel.double().cpu(), expected, atol=1e-6):
            errors: list[str] = others[-1]
            errors.append(f"{prefix}weight is no bilinear kernel; build the net with upsampling='learned'")


class LearnedUpsampling(nn.ConvTranspose2d):
    """A transposed convolution that starts as bilinear upsampling."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(channels, channels, 2 * factor, factor, bias=False)
        with torch.no_grad():
            self.weight.copy_(bilinear_kernel(channels, 2 * factor))

    def forward(self, score: Tensor, crop: int, size: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """As FixedUpsampling's."""
        full = super().forward(score)
        return full[:, :, crop : crop + size[0], crop : crop + size[1]]


class DenseConvolution(nn.Conv2d):
    """fc6 or fc7: a convolution with few places and many weights, as one matrix product.

    Faster than torch's own on a CPU, which rearranges all weights at every call (fc7 in bf16: 7 times); and right:
    oneDNN's bf16 gradient of a 7×7 kernel's weights, padded by 3, over a map of up to 2 rows or columns
    reads memory that nobody wrote (torch 2.14.1).

    `factors`, where it is a list, is given the gradient by the result, (rows, out), and what the weights were
    multiplied by, (rows, in), instead of the weights' own gradient: that is as large as the weights, and the product
    of the two. Whoever uses it piece by piece needs no memory for the whole.
    """

    factors: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x        (N, C, H, W)
        returns  as Conv2d's
        """
        size, border = self.kernel_size[0], self.padding[0]
        assert isinstance(border, int)
        x = nn.functional.pad(x, (border, border, border, border))
        windows = _Windows.apply(x.permute(0, 2, 3, 1), size)
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        flat = windows.view(-1, weight.shape[1])
        rows: Tensor
        if self.factors is None or not weight.requires_grad:
            rows = nn.functional.linear(flat, weight, self.bias)
        else:
            rows = _Product.apply(flat, weight, self.bias, self.factors)
        return rows.view(*windows.shape[:3], -1).permute(0, 3, 1, 2)


class _Windows(torch.autograd.Function):
    """All size×size parts of a map, (N, h, w, size, size, C) of (N, H, W, C).

    The gradient's sums are those of torch's unfold, in the same order, in a tenth of its time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        return x.unfold(1, size, 1).unfold(2, size, 1).permute(0, 1, 2, 4, 5, 3).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        count, height, width, size, _, channels = gradient.shape
        rows = gradient.new_zeros(count, height, width + size - 1, size, channels)
        for column in reversed(range(size)):
            rows[:, :, column : column + width] += gradient[:, :, :, :, column]
        x = gradient.new_zeros(count, height + size - 1, width + size - 1, channels)
        for row in reversed(range(size)):
            x[:, row : row + height] += rows[:, :, :, row]
        return x, None


class _Product(torch.autograd.Function):
    """x @ weight.T + bias, whose gradient by the weight is left as two factors: that by the result, and x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, factors: list[tuple[Tensor, Tensor]]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.factors = factors
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        ctx.factors.append((gradient, x.detach()))
        return gradient @ weight, None, gradient.sum(0), None


class Dropout(nn.Module):
    """Element-wise dropout, as Caffe's, whose draw can be fixed image by image.

    `generators`, one an image of the coming batch, make the draw independent of how a batch is
    spread over processes and of what was drawn before; None draws from torch's own.
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
