"""Masks that their makers publish as MATLAB files: they become palette pictures."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fcn.data.labels import Labels, look_up
from fcn.io import matlab


def pictures(variable: str, table: npt.NDArray[np.uint8], labels: Labels) -> Callable[[str, bytes], bytes]:
    """What `extraction.write` is to write: a picture for a MATLAB file, any other file as it is.

    variable   what the mask is called in its file
    table      (K,) uint8: class or VOID of each of the makers' codes 0..K-1
    """

    def change(where: str, content: bytes) -> bytes:
        if not where.endswith(".mat"):
            return content
        return labels.png(look_up(matlab.matrix(content, variable, where), table, where))

    return change
