"""Overlapping tiles for large images. Every pixel of the image is taken from exactly one tile."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fcn.data.labels import VOID
from fcn.params import Size
from fcn.runtime.errors import UserError


class Span(NamedTuple):
    """Rows or columns of a tile: it covers start..stop, and first..last is taken from it (ends excluded)."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Tiling:
    """Tile size and minimum overlap of neighbouring tiles, in pixels."""

    width: int
    height: int
    overlap: int


def tiling(tile: Size | None, overlap: int) -> Tiling | None:
    """How images are tiled with data.tile and data.overlap; None if they are not.

    raises   UserError if the overlap is not smaller than the tile
    """
    if not tile:
        return None
    if overlap >= min(tile):
        raise UserError(f"params.yaml: data.overlap is {overlap}; it must be smaller than the tiles, {tile}")
    return Tiling(*tile, overlap)


def windows(width: int, height: int, tiles: Tiling) -> Iterator[tuple[Span, Span]]:
    """Rows and columns of each tile, row by row. All tiles have the full size unless the image is smaller."""
    for rows in evenly(height, tiles.height, tiles.overlap):
        for columns in evenly(width, tiles.width, tiles.overlap):
            yield rows, columns


def evenly(length: int, tile: int, overlap: int) -> Iterator[Span]:
    """Evenly spaced tiles along one side, for training and evaluation; overlaps are split in the middle.

    Each pixel is thus taken from the tile in which it is farthest from the border.
    """
    tile = min(tile, length)
    count = 1 + -(-(length - tile) // (tile - overlap)) if length > tile else 1
    starts = [i * (length - tile) // max(1, count - 1) for i in range(count)]
    cuts = [0, *((start + tile + following) // 2 for start, following in pairwise(starts)), length]
    for start, (first, last) in zip(starts, pairwise(cuts), strict=True):
        yield Span(start, start + tile, first, last)


def own_part(mask: npt.NDArray[np.uint8], rows: Span, columns: Span) -> npt.NDArray[np.uint8]:
    """(H, W) uint8: the mask of a tile, VOID where pixels are taken from other tiles."""
    part = np.full_like(mask, VOID)
    inside = np.s_[
        rows.first - rows.start : rows.last - rows.start, columns.first - columns.start : columns.last - columns.start
    ]
    part[inside] = mask[inside]
    return part
