"""How far each pixel is from the border of its class: where a coarse net is expected to err.

source   Kohli, Ladický, Torr (IJCV 2009), who score the pixels within some width of a border, the "trimap"
"""

import numpy as np

from fcn.data.labels import VOID, UInt8

WITHIN = (1, 2, 4, 8, 16, 32)  # pixels
FARTHER, NEVER = len(WITHIN), len(WITHIN) + 1


def rings(mask: UInt8) -> UInt8:
    """The first distance in WITHIN that reaches a pixel of another class.

    Distance is counted in steps to any of the eight neighbours, so that neighbours of two classes are at 1. Void is no
    class: it makes no border, and is crossed to reach one. Where a data set draws contours as void, as VOC does some
    five pixels wide, the classes on both sides are that far apart, and hardly a pixel is nearer.

    mask      (H, W) uint8, classes 0..C-1 or VOID
    returns   (H, W) uint8, a place in WITHIN, FARTHER, or NEVER where the mask is void
    """
    void = mask == VOID
    # Another class is in reach where the least class in reach is not the greatest; void is neither.
    least, greatest = mask, np.where(void, np.uint8(0), mask)
    result = np.full(mask.shape, FARTHER, np.uint8)
    reach = 0
    for distance in WITHIN:
        least = _spread(least, distance - reach, np.minimum)
        greatest = _spread(greatest, distance - reach, np.maximum)
        reach = distance
        result -= least != greatest
    result[void] = NEVER
    return result


def _spread(values: UInt8, step: int, choose: np.ufunc) -> UInt8:
    """What is chosen of each pixel and those `step` away: if each stood for a square, a square so much larger."""
    for axis in (0, 1):
        spread = values.copy()
        here, there = spread.swapaxes(0, axis), values.swapaxes(0, axis)
        choose(here[:-step], there[step:], out=here[:-step])
        choose(here[step:], there[:-step], out=here[step:])
        values = spread
    return values
