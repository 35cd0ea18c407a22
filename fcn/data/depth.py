"""Depth as one 8-bit channel: its logarithm, as the reference's nets see it, in steps of 2.5 percent."""

import numpy as np
import numpy.typing as npt

from fcn.data.labels import UInt8

STEPS = 40  # codes per factor of e
LOWEST = 5  # ln(millimetres) of code 0: 15 cm; code 255 is 87 m
UNKNOWN = 0  # a pixel without depth, which raw depth writes as 0 too


def encode(millimetres: npt.NDArray[np.integer]) -> UInt8:
    """Codes of raw depth.

    millimetres  (H, W), 0 where depth is unknown
    returns      (H, W) uint8: UNKNOWN, or STEPS * (ln(millimetres) - LOWEST), rounded and clipped to 1..255
    """
    known = millimetres > 0
    logarithm = np.log(np.where(known, millimetres, 1).astype(np.float64))
    codes = np.clip(np.rint(STEPS * (logarithm - LOWEST)), 1, 255)
    return np.where(known, codes, UNKNOWN).astype(np.uint8)
