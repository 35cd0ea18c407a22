"""Tiles: what is too large for one piece is seen in overlapping ones, and each pixel is answered for by one of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fcn.data.labels import VOID
from fcn.runtime.errors import UserError

GRID = 32  # pixels between two cells of a net's fc6, at every stride of its result


class Span(NamedTuple):
    """One side of a tile: it shows start..stop, and answers for first..last of that (ends excluded)."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size that share at least `overlap` pixels with their neighbours."""

    width: int
    height: int
    overlap: int


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


def windows(width: int, height: int, tiles: Tiling) -> Iterator[tuple[Span, Span]]:
    """Rows and columns of each tile of a raster, row by row. All have the full size, unless the raster is smaller."""
    for rows in evenly(height, tiles.height, tiles.overlap):
        for columns in evenly(width, tiles.width, tiles.overlap):
            yield rows, columns


def evenly(length: int, tile: int, overlap: int) -> Iterator[Span]:
    """Tiles of one side of a raster, for learning and scoring: spread evenly, overlaps divided in the middle.

    So each pixel is answered for where it lies deepest in a tile.
    """
    tile = min(tile, length)
    count = 1 + -(-(length - tile) // (tile - overlap)) if length > tile else 1
    starts = [i * (length - tile) // max(1, count - 1) for i in range(count)]
    cuts = [0, *((start + tile + following) // 2 for start, following in pairwise(starts)), length]
    for start, (first, last) in zip(starts, pairwise(cuts), strict=True):
        yield Span(start, start + tile, first, last)


def on_grid(length: int, tile: int, context: tuple[int, int]) -> Iterator[Span]:
    """Tiles of one side of an image, for predicting: every pixel's logits are those of the whole image.

    Tiles that begin on the net's grid put the cells of fc6 where the whole image has them; what a tile answers for is
    so far from its borders that none of them is seen. At the image's own borders the whole image has them too.

    tile     pixels of a tile at most
    context  pixels before and after a pixel that its logits depend on: fcn.inference.receptive_field
    raises   UserError if tiles are too small to keep anything of them
    """
    before, after = context
    if length > tile < before + after + 2 * GRID:
        raise UserError(f"tiles of {tile} pixels are too small for this net; write {before + after + 2 * GRID} or more")
    done = 0
    while done < length:
        start = max(0, (done - before) // GRID * GRID)
        stop = min(length, start + tile)
        last = length if stop == length else stop - after
        yield Span(start, stop, done, last)
        done = last


def answered(mask: npt.NDArray[np.uint8], rows: Span, columns: Span) -> npt.NDArray[np.uint8]:
    """(H, W) uint8: a tile's mask with what other tiles answer for void."""
    part = np.full_like(mask, VOID)
    own = np.s_[
        rows.first - rows.start : rows.last - rows.start, columns.first - columns.start : columns.last - columns.start
    ]
    part[own] = mask[own]
    return part
