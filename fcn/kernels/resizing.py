"""Bilinear resizing of logits in strips."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

STRIP = 1 << 22  # values per strip of resized logits


class Axis(NamedTuple):
    """Linear interpolation along one dimension: each output pixel lies between two input pixels.

    lower, upper   (n,) int64, indices of the two input pixels
    fraction       (n,) fp64, position between them, 0 at lower, 1 at upper
    """

    lower: Tensor
    upper: Tensor
    fraction: Tensor

    def part(self, first: int, last: int) -> "tuple[slice, Axis]":
        """The output pixels whose lower input is in first..last (last excluded), and their axis relative to `first`."""
        start, stop = torch.searchsorted(self.lower, torch.tensor([first, last])).tolist()
        outputs = slice(start, stop)
        return outputs, Axis(self.lower[outputs] - first, self.upper[outputs] - first, self.fraction[outputs])


def axis(pixels: int, result: int) -> Axis:
    """Resizing `pixels` to `result` pixels, as torch's bilinear interpolate with align_corners=False."""
    positions = (torch.arange(result, dtype=torch.float64) + 0.5) * pixels / result - 0.5
    positions = positions.clamp(0, pixels - 1)
    lower = positions.long()
    return Axis(lower, (lower + 1).clamp(max=pixels - 1), positions - lower)


def resized(maps: Tensor, rows: Axis, columns: Axis) -> Iterator[tuple[int, Tensor]]:
    """Bilinear resizing in strips, so that the full result, which may be large, is never in memory.

    maps     (C, h, w)
    yields   the first row of each strip, and the strip, (C, n, W)
    """
    device, width = maps.device, len(columns.lower)
    left, right, across = (part.to(device) for part in columns)
    height = max(1, STRIP // max(1, len(maps) * width))
    for top in range(0, len(rows.lower), height):
        strip = slice(top, top + height)
        first, last = int(rows.lower[strip][0]), int(rows.upper[strip][-1])
        wide = maps[:, first : last + 1]
        wide = torch.lerp(wide[..., left], wide[..., right], across.to(maps.dtype))
        above, below = ((part[strip] - first).to(device) for part in (rows.lower, rows.upper))
        down = rows.fraction[strip, None].to(device, maps.dtype)
        yield top, torch.lerp(wide[:, above], wide[:, below], down)
