"""What a pixel's logits depend on: a window around it, traced back through the net's layers.

fc6 sees 404 pixels of VGG16's input, bilinear upsampling takes two neighbouring cells of it.
"""

from fcn.data.tiles import GRID
from fcn.models import FCN

Interval = tuple[int, int]  # first and last, both included


def context(net: FCN) -> tuple[int, int]:
    """Pixels before and after a pixel, at most, that its logits depend on; a row and a column are alike.

    source   the layers of fcn.models.fcn, traced back from the result to the image
    """
    windows = [(pixel, *window(net, pixel)) for pixel in range(GRID)]  # the next 32 pixels see the same, shifted
    return max(pixel - first for pixel, first, _ in windows), max(last - pixel for pixel, _, last in windows)


def window(net: FCN, pixel: int) -> Interval:
    """The input pixels that one pixel's logits depend on; below 0 lies padding."""
    scores = _upsampled((pixel + net.crops[net.stride],) * 2, net.stride)
    seen = []
    for name, block, stride in (("pool3", 3, 8), ("pool4", 4, 16)):
        if net.stride <= stride:  # scores of this pooling meet the coarser ones: fcn.models.fcn.FCN._fuse
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
