"""Tiles: how a big raster is cut into overlapping windows, and which of them answers for a pixel."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fcn.errors import UserError
from fcn.labels import VOID

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are outside


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size that share at least `overlap` pixels with their neighbours."""

    width: int
    height: int
    overlap: int


@dataclass(frozen=True)
class Window:
    """A tile's place in its raster.

    box   what the tile shows
    own   the part of it that no other tile answers for: overlaps are divided in the middle, so that
          each pixel is answered for once, where it lies deepest in a tile
    """

    box: Box
    own: Box

    def answered(self, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The tile's mask with what others answer for void; (H, W) uint8, of the box's size."""
        left, top, right, bottom = self.own
        x, y = self.box[:2]
        part = np.full_like(mask, VOID)
        part[top - y : bottom - y, left - x : right - x] = mask[top - y : bottom - y, left - x : right - x]
        return part


def tiling(tile: str, overlap: int) -> Tiling | None:
    """What data.tile and data.overlap say; None if images stay whole.

    raises   UserError if the overlap leaves a tile nothing of its own
    """
    if tile == "none":
        return None
    width, height = map(int, tile.split("x"))
    if overlap >= min(width, height):
        raise UserError(f"params.yaml: data.overlap is {overlap}; it must be smaller than the tiles, {tile}")
    return Tiling(width, height, overlap)


def windows(width: int, height: int, tiles: Tiling) -> Iterator[Window]:
    """The tiles of a raster, row by row. All have the full size, but where the raster itself is smaller."""
    for top, bottom, own_top, own_bottom in _spans(height, tiles.height, tiles.overlap):
        for left, right, own_left, own_right in _spans(width, tiles.width, tiles.overlap):
            yield Window((left, top, right, bottom), (own_left, own_top, own_right, own_bottom))


def _spans(length: int, tile: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Begin and end of each tile along one side, spread evenly, and of the part that it answers for."""
    tile = min(tile, length)
    count = 1 + -(-(length - tile) // (tile - overlap)) if length > tile else 1
    starts = [i * (length - tile) // max(1, count - 1) for i in range(count)]
    cuts = [0, *((start + tile + following) // 2 for start, following in pairwise(starts)), length]
    for start, (begin, end) in zip(starts, pairwise(cuts), strict=True):
        yield start, start + tile, begin, end
