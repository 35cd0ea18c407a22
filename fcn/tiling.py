"""A large image in tiles, so that every pixel's logits are those of the whole image.

A pixel's logits depend on a window around it: fc6 sees 404 pixels of VGG16's input, bilinear
upsampling takes two neighbouring cells of it. Tiles that begin on the net's grid of 32 pixels put the
cells where the whole image has them; tiles that overlap by that window let no border of theirs into a
pixel that is kept. At the image's own borders a tile has them too, and sees the same padding.
"""

from collections.abc import Iterator
from typing import NamedTuple

from fcn.errors import UserError
from fcn.models import FCN

GRID = 32  # pixels between two cells of fc6, at every stride of the result

Interval = tuple[int, int]  # first and last, both included


class Span(NamedTuple):
    """One side of a tile: the net sees start..stop, of its result first..last is kept (ends excluded)."""

    start: int
    stop: int
    first: int
    last: int


def spans(length: int, tile: int, context: tuple[int, int]) -> Iterator[Span]:
    """Tiles of one side of an image, whose kept parts follow one another from 0 to `length`.

    tile     pixels of a tile at most
    context  pixels before and after a pixel that its logits depend on
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


def context(net: FCN) -> tuple[int, int]:
    """Pixels before and after a pixel, at most, that its logits depend on; a row and a column are alike.

    source   the layers of fcn.models, traced back from the result to the image
    """
    windows = [(pixel, *window(net, pixel)) for pixel in range(GRID)]  # the next 32 pixels see the same, shifted
    return max(pixel - first for pixel, first, _ in windows), max(last - pixel for pixel, _, last in windows)


def window(net: FCN, pixel: int) -> Interval:
    """The input pixels that one pixel's logits depend on; below 0 lies padding."""
    scores = _upsampled((pixel + net.crops[net.stride],) * 2, net.stride)
    seen = []
    for name, block, stride in (("pool3", 3, 8), ("pool4", 4, 16)):
        if net.stride <= stride:  # scores of this pooling meet the coarser ones: fcn.models.FCN._fuse
            skip, coarse = (0, net.crops[name]) if net.same else (net.crops[name], 0)
            seen.append(_pooled(net, (scores[0] + skip, scores[1] + skip), block))
            scores = _upsampled((scores[0] + coarse, scores[1] + coarse), 2)
    border = 3 if net.same else 0
    seen.append(_pooled(net, (scores[0] - border, scores[1] + 6 - border), 5))
    return min(first for first, _ in seen), max(last for _, last in seen)


def _upsampled(result: Interval, factor: int) -> Interval:
    """The cells that a transposed convolution of kernel 2·factor and stride `factor` makes a result of."""
    return result[0] // factor - 1, result[1] // factor


def _pooled(net: FCN, cells: Interval, block: int) -> Interval:
    """The input pixels that cells behind the pooling of a block depend on."""
    first, last = cells
    for count in reversed(net.backbone.convolutions[:block]):
        first, last = 2 * first - count, 2 * last + 1 + count
    shift = 0 if net.same else 99  # conv1_1 is padded by 100 instead of 1
    return first - shift, last - shift
