"""The reference's border of 100 pixels without most of its arithmetic: an exact shortcut.

With zeros around an image, every map of the trunk has three kinds of rows, and of columns: a few at each end
that feel the map's own edge; those in the middle that feel the image; and between them some that are all alike.
So the part that feels the image is computed by itself, surrounded by what is alike; and the rest, in which no image
changes anything, once a batch and small: a frame around a few rows that are alike. Where a row would feel both
image and edge, the whole map is put together. Gradients go back the same ways and are exact too.

Not for batch norm, whose statistics count every pixel of the border.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BORDER = 100  # pixels of zeros around the image, as in the reference


@dataclass(frozen=True)
class Span:
    """The rows of a map, or its columns.

    length       all of them
    start, end   from `start` up to and without `end` they feel the image
    near, far    so many feel the map's edge: at the beginning, at the end
    """

    length: int
    start: int
    end: int
    near: int = 0
    far: int = 0

    @property
    def apart(self) -> bool:
        """Whether no row feels both the image and the edge."""
        return self.near <= self.start and self.end + self.far <= self.length

    def convolved(self) -> "Span":
        """Behind a 3×3 convolution that is padded by 1."""
        return Span(self.length, self.start - 1, self.end + 1, self.near + 1, self.far + 1)

    def pooled(self) -> "Span":
        """Behind a pooling by 2 whose last window may be a half."""
        length = -(-self.length // 2)
        far = length - (self.length - self.far) // 2
        return Span(length, self.start // 2, -(-self.end // 2), -(-self.near // 2), far)


@dataclass(frozen=True)
class Bordered:
    """A map that still needs its ReLU, in two parts for as long as no row feels image and edge.

    image   (N, C, h, w) the rows and columns that feel the image; later (N, C, H, W), the whole map
    frame   (1, C, ., .) all other rows and columns, as around a middle of few that are alike; None later

    Its convolutions are 3×3 and have no padding of their own.
    """

    image: Tensor
    frame: Tensor | None
    rows: Span
    columns: Span

    @classmethod
    def begin(cls, layer: nn.Conv2d, image: Tensor) -> "Bordered":
        """Behind conv1_1, whose padding is like the border itself: there is no edge yet.

        image   (N, 3, H, W) without a border
        """
        rows, columns = (Span(n + 2 * BORDER - 2, BORDER - 2, BORDER + n) for n in image.shape[2:])
        assert layer.bias is not None
        return cls(layer(_padded(image, 2)), layer.bias[None, :, None, None], rows, columns)

    def convolved(self, layer: nn.Conv2d) -> "Bordered":
        """Behind the ReLU and one more convolution."""
        rows, columns = self.rows.convolved(), self.columns.convolved()
        if self.frame is None or not (rows.apart and columns.apart):
            return Bordered(layer(_padded(self.whole())), None, rows, columns)
        frame, alike = _lengthened(self.frame, self.rows.near, self.columns.near, 2, 2)
        # The frame first: who listens to a layer hears of the image last.
        around = layer(_padded(frame))
        return Bordered(layer(_Surrounded.apply(self.image, alike, (2, 2, 2, 2))), around, rows, columns)

    def pooled(self, pool: Callable[[Tensor], Tensor]) -> "Bordered":
        """Behind the ReLU and a pooling by 2."""
        rows, columns = self.rows.pooled(), self.columns.pooled()
        if self.frame is None or not (rows.apart and columns.apart):
            return Bordered(pool(self.whole()), None, rows, columns)
        height, width = self.frame.shape[2:]
        more = _missing(self.rows, height), _missing(self.columns, width)
        frame, alike = _lengthened(self.frame, self.rows.near, self.columns.near, *more)
        odd = (self.rows.start % 2, self.rows.end % 2, self.columns.start % 2, self.columns.end % 2)
        return Bordered(pool(_Surrounded.apply(self.image, alike, odd)), pool(frame), rows, columns)

    def whole(self) -> Tensor:
        """(N, C, H, W): the map behind its ReLU."""
        if self.frame is None:
            return self.image.relu()
        rows, columns = self.rows, self.columns
        more = rows.length - self.frame.shape[2], columns.length - self.frame.shape[3]
        frame, _ = _lengthened(self.frame, rows.near, columns.near, *more)
        frame = frame.expand(len(self.image), -1, -1, -1)
        beside = frame[:, :, rows.start : rows.end]
        middle = (beside[..., : columns.start], self.image.relu(), beside[..., columns.end :])
        return torch.cat([frame[:, :, : rows.start], torch.cat(middle, 3), frame[:, :, rows.end :]], 2)


def _lengthened(frame: Tensor, row: int, column: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """The frame behind its ReLU with so many more of the row and the column that are alike; (C,), where they meet."""
    frame = frame.relu()
    return _copied(_copied(frame, 2, row, rows), 3, column, columns), frame[0, :, row, column]


def _copied(x: Tensor, dim: int, at: int, count: int) -> Tensor:
    shape = [-1] * 4
    shape[dim] = count
    parts = (x.narrow(dim, 0, at), x.narrow(dim, at, 1).expand(shape), x.narrow(dim, at, x.shape[dim] - at))
    return torch.cat(parts, dim)


def _missing(span: Span, length: int) -> int:
    """How many more rows a frame of `length` needs to be pooled as the whole map is, one window of rows alike kept."""
    more = (span.length - length) % 2
    while (length + more - span.far) // 2 <= -(-span.near // 2):
        more += 2
    return more


def _padded(x: Tensor, by: int = 1) -> Tensor:
    return nn.functional.pad(x, (by, by, by, by))


class _Surrounded(torch.autograd.Function):
    """ReLU of a map and a border of one colour around it, in one pass over memory.

    x         (N, C, H, W)
    colour    (C,)
    margins   rows above and below, columns before and after
    returns   (N, C, H + above + below, W + before + after)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, colour: Tensor, margins: tuple[int, int, int, int]) -> Tensor:
        above, below, before, after = margins
        count, channels, height, width = x.shape
        ctx.inside = (..., slice(above, above + height), slice(before, before + width))
        size = (count, channels, above + height + below, before + width + after)
        wide = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for strip in _strips(wide, ctx.inside):
            strip.copy_(colour[:, None, None].expand_as(strip))
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
    """What of a map lies outside a part of it."""
    _, rows, columns = inside
    beside = wide[:, :, rows]
    above, below = wide[:, :, : rows.start], wide[:, :, rows.stop :]
    return [above, below, beside[..., : columns.start], beside[..., columns.stop :]]
