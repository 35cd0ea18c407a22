"""Computes the reference's 100 pixels of zero padding without most of the arithmetic. The result is exact.

With zeros around the image, the rows of every feature map in the trunk (and likewise its columns) fall into
three groups: rows near the edge of the map, whose receptive field reaches past the edge; rows in the middle,
whose receptive field reaches the image; and constant rows in between, which are all equal. Therefore

- the image part is computed separately for each image, padded with the constant value;
- the rest does not depend on the image. It is computed once per batch, on a small frame that keeps only a few
  of the constant rows and columns;
- as soon as a row depends on both the image and the edge, the two parts are assembled into the full map.

Gradients flow through the same operations and are exact as well. Not applicable to nets with batch norm, whose
statistics include every pixel of the border.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BORDER = 100  # pixels of zeros around the image, as in the reference


@dataclass(frozen=True)
class Span:
    """The groups of rows (or columns) of a feature map.

    length       number of rows
    start, end   rows start..end (end excluded) depend on the image
    near, far    number of rows at the beginning and at the end that depend on the edge of the map
    """

    length: int
    start: int
    end: int
    near: int = 0
    far: int = 0

    @property
    def separable(self) -> bool:
        """Whether no row depends on both the image and the edge."""
        return self.near <= self.start and self.end + self.far <= self.length

    def convolved(self) -> "Span":
        """The groups after a 3×3 convolution with padding 1."""
        return Span(self.length, self.start - 1, self.end + 1, self.near + 1, self.far + 1)

    def pooled(self) -> "Span":
        """The groups after 2×2 pooling with stride 2 and ceil_mode."""
        length = -(-self.length // 2)
        far = length - (self.length - self.far) // 2
        return Span(length, self.start // 2, -(-self.end // 2), -(-self.near // 2), far)


@dataclass(frozen=True)
class Bordered:
    """A feature map before its ReLU, in two parts as long as no row depends on both image and edge.

    image   (N, C, h, w) the part that depends on the image; the full map (N, C, H, W) once the parts are assembled
    frame   (1, C, ., .) all other rows and columns, around a few constant ones; None once the parts are assembled

    The convolutions applied to it are 3×3 without padding; padding is added here.
    """

    image: Tensor
    frame: Tensor | None
    rows: Span
    columns: Span

    @classmethod
    def begin(cls, layer: nn.Conv2d, image: Tensor) -> "Bordered":
        """The output of conv1_1. Its zero padding equals the border, so no row depends on the edge yet.

        image   (N, 3, H, W) without border
        """
        rows, columns = (Span(n + 2 * BORDER - 2, BORDER - 2, BORDER + n) for n in image.shape[2:])
        assert layer.bias is not None
        return cls(layer(_padded(image, 2)), layer.bias[None, :, None, None], rows, columns)

    def convolved(self, layer: nn.Conv2d) -> "Bordered":
        """The map after ReLU and a convolution."""
        rows, columns = self.rows.convolved(), self.columns.convolved()
        if self.frame is None or not (rows.separable and columns.separable):
            return Bordered(layer(_padded(self.whole())), None, rows, columns)
        frame, constant = _with_more_constants(self.frame, self.rows.near, self.columns.near, 2, 2)
        # The frame first: a forward hook that keeps the last output it receives then keeps the image part.
        around = layer(_padded(frame))
        return Bordered(layer(_PaddedReLU.apply(self.image, constant, (2, 2, 2, 2))), around, rows, columns)

    def pooled(self, pool: Callable[[Tensor], Tensor]) -> "Bordered":
        """The map after ReLU and 2×2 pooling."""
        rows, columns = self.rows.pooled(), self.columns.pooled()
        if self.frame is None or not (rows.separable and columns.separable):
            return Bordered(pool(self.whole()), None, rows, columns)
        height, width = self.frame.shape[2:]
        more = _missing(self.rows, height), _missing(self.columns, width)
        frame, constant = _with_more_constants(self.frame, self.rows.near, self.columns.near, *more)
        odd = (self.rows.start % 2, self.rows.end % 2, self.columns.start % 2, self.columns.end % 2)
        return Bordered(pool(_PaddedReLU.apply(self.image, constant, odd)), pool(frame), rows, columns)

    def whole(self) -> Tensor:
        """(N, C, H, W): the full map after its ReLU."""
        if self.frame is None:
            return self.image.relu()
        rows, columns = self.rows, self.columns
        more = rows.length - self.frame.shape[2], columns.length - self.frame.shape[3]
        frame, _ = _with_more_constants(self.frame, rows.near, columns.near, *more)
        frame = frame.expand(len(self.image), -1, -1, -1)
        beside = frame[:, :, rows.start : rows.end]
        middle = (beside[..., : columns.start], self.image.relu(), beside[..., columns.end :])
        return torch.cat([frame[:, :, : rows.start], torch.cat(middle, 3), frame[:, :, rows.end :]], 2)


def _with_more_constants(frame: Tensor, row: int, column: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """The frame after ReLU with more constant rows and columns, and (C,), the constant value.

    row, column     index of a constant row and of a constant column
    rows, columns   number of copies to insert
    """
    frame = frame.relu()
    return _copied(_copied(frame, 2, row, rows), 3, column, columns), frame[0, :, row, column]


def _copied(x: Tensor, dim: int, at: int, count: int) -> Tensor:
    """Inserts `count` copies of the slice at index `at` of a dimension."""
    shape = [-1] * 4
    shape[dim] = count
    parts = (x.narrow(dim, 0, at), x.narrow(dim, at, 1).expand(shape), x.narrow(dim, at, x.shape[dim] - at))
    return torch.cat(parts, dim)


def _missing(span: Span, length: int) -> int:
    """Rows to add to a frame of `length` so that it pools as the full map does and keeps a window of constant rows."""
    more = (span.length - length) % 2
    while (length + more - span.far) // 2 <= -(-span.near // 2):
        more += 2
    return more


def _padded(x: Tensor, by: int = 1) -> Tensor:
    return nn.functional.pad(x, (by, by, by, by))


class _PaddedReLU(torch.autograd.Function):
    """ReLU and constant padding in one pass over memory.

    x         (N, C, H, W)
    value     (C,) of the padding, per channel
    margins   rows above and below, columns before and after
    returns   (N, C, H + above + below, W + before + after)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, margins: tuple[int, int, int, int]) -> Tensor:
        above, below, before, after = margins
        count, channels, height, width = x.shape
        ctx.inside = (..., slice(above, above + height), slice(before, before + width))
        size = (count, channels, above + height + below, before + width + after)
        wide = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for strip in _strips(wide, ctx.inside):
            strip.copy_(value[:, None, None].expand_as(strip))
        torch.clamp(x, min=0, out=wide[ctx.inside])
        ctx.save_for_backward(wide)
        return wide

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        (wide,) = ctx.saved_tensors
        x = torch.ops.aten.threshold_backward(gradient[ctx.inside], wide[ctx.inside], 0)
        return x, torch.stack([strip.sum((0, 2, 3)) for strip in _strips(gradient, ctx.inside)]).sum(0), None


def _strips(wide: Tensor, inside: Any) -> list[Tensor]:
    """The four parts of a map outside a rectangle: above, below, left and right."""
    _, rows, columns = inside
    beside = wide[:, :, rows]
    above, below = wide[:, :, : rows.start], wide[:, :, rows.stop :]
    return [above, below, beside[..., : columns.start], beside[..., columns.stop :]]
