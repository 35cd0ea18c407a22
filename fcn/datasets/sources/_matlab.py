"""Masks published as MATLAB files: lookup of their codes, and conversion to palette PNGs."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fcn.data.labels import VOID, Labels
from fcn.io import matlab
from fcn.runtime.errors import UserError


def pictures(
    variable: str, table: npt.NDArray[np.uint8], labels: Labels, lowest: int = 0
) -> Callable[[str, bytes], bytes]:
    """A converter for `extraction.write`: MATLAB files become PNGs, other files are unchanged.

    variable   name of the mask in its file
    table      (K,) uint8: class or VOID of each raw code lowest..lowest+K-1
    """

    def convert(where: str, content: bytes) -> bytes:
        if not where.endswith(".mat"):
            return content
        return labels.png(look_up(matlab.matrix(content, variable, where), table, where, lowest))

    return convert


def look_up(
    codes: npt.NDArray[np.number], table: npt.NDArray[np.uint8], where: str, lowest: int = 0
) -> npt.NDArray[np.uint8]:
    """Maps mask codes to classes with a lookup table.

    codes    (H, W) whole numbers of any dtype
    table    (K,) uint8, class or VOID of each code lowest..lowest+K-1
    returns  (H, W) uint8, classes 0..C-1 or VOID
    raises   UserError naming the first pixel whose code is not in the table
    """
    highest = lowest + len(table) - 1
    known = (codes >= lowest) & (codes <= highest)
    whole = np.where(known, codes, lowest).astype(np.int64)
    known &= whole == codes
    if not known.all():
        y, x = np.argwhere(~known)[0]
        raise UserError(f"{where} has class {codes[y, x]:g} at row {y}, column {x}; only {lowest}..{highest} are known")
    return table[whole - lowest]


def from_one(classes: int) -> npt.NDArray[np.uint8]:
    """(C + 1,) uint8 lookup table for MATLAB's one-based codes: 0 is void, code n is class n - 1."""
    return np.array([VOID, *range(classes)], np.uint8)
