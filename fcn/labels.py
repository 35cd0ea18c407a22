"""Classes and colours of every data set, and the one value that is no class."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcn.errors import UserError

VOID = 255  # torch's ignore_index, and VOC's own value


@dataclass(frozen=True)
class Labels:
    """The classes of a data set, in the order of their numbers.

    names    one per class 0..C-1
    palette  (red, green, blue) per class, 0..255
    void     codes of the raw masks that count as no class; every other code is its own class
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    void: tuple[int, ...] = field(default=(VOID,))

    def decode(self, raw: npt.NDArray[np.uint8], where: str) -> npt.NDArray[np.uint8]:
        """The mask, classes 0..C-1 or VOID, of a raw one.

        raw      (H, W) uint8, the data set's own codes
        raises   UserError naming the first pixel whose code is neither a class nor void
        """
        table = np.full(256, VOID, np.uint8)
        table[: len(self.names)] = np.arange(len(self.names))
        known = np.zeros(256, bool)
        known[[*range(len(self.names)), *self.void]] = True
        present = np.bincount(raw.ravel(), minlength=256) > 0
        if (present & ~known).any():
            code = int(np.flatnonzero(present & ~known)[0])
            y, x = np.argwhere(raw == code)[0]
            voids = " and ".join(map(str, self.void))
            raise UserError(
                f"{where} has class {code} at row {y}, column {x}; "
                f"only 0..{len(self.names) - 1} and {voids} (void) are known"
            )
        return table[raw]

    def picture(self, mask: npt.NDArray[np.integer]) -> Image.Image:
        """A mask as a palette picture: its pixels are class numbers, its colours the classes'; void is white."""
        image = Image.fromarray(mask.astype(np.uint8))
        # All 256 colours: Pillow packs a shorter palette's pixels into fewer bits, and VOID would be lost.
        colours = [value for rgb in self.palette for value in rgb]
        image.putpalette(colours + [255] * (768 - len(colours)))
        return image


SCENES = Labels(
    ("sky", "ground", "road", "building", "tree", "car", "sign", "person"),
    (
        (70, 130, 180),
        (152, 200, 120),
        (128, 64, 128),
        (190, 150, 120),
        (60, 120, 40),
        (0, 0, 170),
        (235, 200, 0),
        (220, 20, 60),
    ),
)

CAMVID = Labels(
    (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    void=(11,),
)


def _voc_colour(number: int) -> tuple[int, int, int]:
    """VOC's colours: the bits of the class number, dealt in turn to red, green and blue, the highest first."""
    red, green, blue = (sum((number >> (3 * bit + k) & 1) << (7 - bit) for bit in range(8)) for k in range(3))
    return red, green, blue


VOC = Labels(
    (
        *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    tuple(_voc_colour(number) for number in range(21)),
)
