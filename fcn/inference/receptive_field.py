"""The receptive field of a pixel's logits, traced back through the net's layers, and tiles that respect it.

For VGG16, fc6 sees 404 input pixels; bilinear upsampling uses two neighbouring cells of it.
"""

from collections.abc import Iterator

from fcn.data.tiles import Span
from fcn.kernels.border import BORDER
from fcn.models import FCN, Net
from fcn.runtime.errors import UserError

GRID = 32  # pixels between neighbouring fc6 cells; the same for FCN-32s, FCN-16s and FCN-8s
Interval = tuple[int, int]  # first and last, both included


def context(net: Net) -> tuple[int, int]:
    """The largest numbers of pixels before and after a pixel that its logits depend on; the same for rows and columns.

    source   the layers of fcn.models.fcn, traced back from the result to the image
    """
    trunk = net.trunks()[0][1]  # all of a late fusion are alike
    windows = [(pixel, *window(trunk, pixel)) for pixel in range(GRID)]  # windows repeat, shifted, every GRID pixels
    return max(pixel - first for pixel, first, _ in windows), max(last - pixel for pixel, _, last in windows)


def on_grid(length: int, tile: int, context: tuple[int, int]) -> Iterator[Span]:
    """Tiles along one side, for prediction: the logits equal those of the whole image.

    Tiles start at multiples of GRID, so their fc6 cells lie where those of the whole image do. The pixels taken
    from a tile are far enough from its borders that no border is inside their receptive field, except for the
    borders of the image itself, which are the same in the whole image.

    tile     maximum size of a tile in pixels
    context  receptive field before and after a pixel, in pixels: `context`
    raises   UserError if the tiles are smaller than the receptive field
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


def window(net: FCN, pixel: int) -> Interval:
    """The input pixels that one pixel's logits depend on; negative ones are padding."""
    backbone = net.backbone
    scores = _upsampled(net, (pixel + net.crops[net.stride],) * 2, net.stride)
    intervals = []
    for name, block, stride in zip(("pool3", "pool4"), backbone.skips, (8, 16), strict=True):
        if net.stride <= stride:  # the skip connection of this pooling layer: fcn.models.fcn.FCN._fuse
            skip, coarse = (0, net.crops[name]) if net.upsampled_larger else (net.crops[name], 0)
            intervals.append(_pooled(net, (scores[0] + skip, scores[1] + skip), block))
            scores = _upsampled(net, (scores[0] + coarse, scores[1] + coarse), 2)
    border = backbone.fc6_pad[0] if net.same else 0
    cells = scores[0] - border, scores[1] - border + backbone.kernel - 1
    intervals.append(_pooled(net, cells, len(backbone.blocks) - 1))
    return min(first for first, _ in intervals), max(last for _, last in intervals)


def _upsampled(net: FCN, result: Interval, factor: int) -> Interval:
    """The input cells of a result of a transposed convolution with stride `factor`."""
    kernel = 2 * factor - net.backbone.expansion
    return -(-(result[0] - kernel + 1) // factor), result[1] // factor


def _pooled(net: FCN, cells: Interval, block: int) -> Interval:
    """The input pixels that cells after a block, and its pooling if it has one, depend on."""
    first, last = cells
    size = net.backbone.pool
    pool_pad = (size - 1) // 2 if net.same else 0
    for number in range(block + 1, 0, -1):
        if number <= net.backbone.poolings:
            first, last = 2 * first - pool_pad, 2 * last - pool_pad + size - 1
        layers = net.backbone.blocks[number - 1]
        for layer in reversed(layers):
            pad = layer.pad if net.same or layer is not net.backbone.blocks[0][0] else BORDER
            first, last = layer.stride * first - pad, layer.stride * last - pad + layer.kernel - 1
    return first, last
