"""Distance of each pixel from the nearest class border, where coarse nets are expected to err.

source   Kohli, Ladický, Torr (IJCV 2009), who score the pixels within a given width of a border, the "trimap"
"""

import numpy as np

from fcn.data.labels import VOID, UInt8

WITHIN = (1, 2, 4, 8, 16, 32)  # pixels
FARTHER, NEVER = len(WITHIN), len(WITHIN) + 1


def rings(mask: UInt8) -> UInt8:
    """The smallest distance in WITHIN at which there is a pixel of another class.

    The distance is counted in steps to the eight neighbours: adjacent pixels of two classes have distance 1. Void is
    not a class. It has no border of its own, and distances are measured across it. If a data set draws contours as
    void, as VOC does with a width of about five pixels, few pixels are nearer to another class than that width.

    mask      (H, W) uint8, classes 0..C-1 or VOID
    returns   (H, W) uint8, an index of WITHIN, FARTHER, or NEVER where the mask is void
    """
    void = mask == VOID
    # Another class is within reach where the minimum and maximum of the classes within reach differ, void excluded.
    least, greatest = mask, np.where(void, np.uint8(0), mask)
    result = np.full(mask.shape, FARTHER, np.uint8)
    reach = 0
    for distance in WITHIN:
        least = _square_filter(least, distance - reach, np.minimum)
        greatest = _square_filter(greatest, distance - reach, np.maximum)
        reach = distance
        result -= least != greatest
    result[void] = NEVER
    return result


def _square_filter(values: UInt8, step: int, choose: np.ufunc) -> UInt8:
    """Minimum or maximum of each pixel and those `step` away: a square filter, applied by row and column."""
    for axis in (0, 1):
        spread = values.copy()
        target, source = spread.swapaxes(0, axis), values.swapaxes(0, axis)
        choose(target[:-step], source[step:], out=target[:-step])
        choose(target[step:], source[:-step], out=target[step:])
        values = spread
    return values
