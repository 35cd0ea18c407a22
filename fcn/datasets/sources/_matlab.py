"""Convert masks published as MATLAB files to palette PNGs."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fcn.data.labels import Labels, look_up
from fcn.io import matlab


def pictures(variable: str, table: npt.NDArray[np.uint8], labels: Labels) -> Callable[[str, bytes], bytes]:
    """A converter for `extraction.write`: MATLAB files become PNGs, other files are unchanged.

    variable   name of the mask in its file
    table      (K,) uint8: class or VOID of each raw code 0..K-1
    """

    def convert(where: str, content: bytes) -> bytes:
        if not where.endswith(".mat"):
            return content
        return labels.png(look_up(matlab.matrix(content, variable, where), table, where))

    return convert
