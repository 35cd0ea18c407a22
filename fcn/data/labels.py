"""Class names and colours of a data set, and decoding of raw masks into class numbers."""

import io
from dataclasses import dataclass
from functools import lru_cache
from unicodedata import category

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcn.runtime.errors import UserError, counted

VOID = 255  # passed to torch as ignore_index; also the void value of PASCAL VOC
UNKNOWN = 254  # in a lookup table: a code that is neither a class nor void
MAX_CLASSES = 254  # class numbers 0..253; UNKNOWN and VOID are reserved
MAX_NAME = 200  # characters in a class name
STRIP = 256  # mask rows decoded at once, which bounds memory for large rasters

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Labels:
    """The classes of a data set, in the order of their numbers.

    names    one per class 0..C-1
    palette  (red, green, blue) per class, 0..255
    void     raw mask codes that are ignored (decoded to VOID)
    codes    raw mask codes of each class, one or more of up to 16 bits; empty: the class numbers themselves
    colours  True if raw masks are RGB images; codes and void are then colours as 0xRRGGBB
    """

    __pydantic_config__ = {"extra": "ignore"}  # older model files also store raw mask codes  # noqa: RUF012

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    void: tuple[int, ...] = (VOID,)
    codes: tuple[tuple[int, ...], ...] = ()
    colours: bool = False

    def problem(self) -> str:
        """Why these labels are invalid, in a few words; empty if they are valid."""
        if not 0 < len(self.names) <= MAX_CLASSES:
            return f"{len(self.names)} classes, not 1 to {MAX_CLASSES}"
        for name in self.names:
            if not 0 < len(name) <= MAX_NAME or any(category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name):
                return f"a class is called {name[:MAX_NAME]!r}; a name has 1 to {MAX_NAME} letters and no line breaks"
            if "</" in name:  # DVC writes names unescaped into the script of its plots page
                return f"a class is called {name!r}; a name does not contain </"
            if self.names.count(name) > 1:
                return f"two classes are called {name!r}"
        if len(self.palette) != len(self.names):
            return f"{len(self.palette)} colours for {len(self.names)} classes"
        if not all(0 <= value <= 255 for colour in self.palette for value in colour):
            return "a colour outside 0..255"
        return ""

    def decode(self, raw: npt.NDArray[np.unsignedinteger], where: str) -> npt.NDArray[np.uint8]:
        """Converts a raw mask to class numbers.

        raw      (H, W) uint8 or uint16 codes, or (H, W, 3) uint8 RGB
        returns  (H, W) uint8, classes 0..C-1 or VOID
        raises   UserError listing the codes that are neither class nor void, with pixel counts and the first position
        """
        table = _table(self)
        mask = np.empty(raw.shape[:2], np.uint8)
        for top in range(0, len(raw), STRIP):
            strip = raw[top : top + STRIP]
            mask[top : top + STRIP] = table.take(packed(strip) if self.colours else strip)
        if (unknown := mask == UNKNOWN).any():
            raise UserError(f"{where} has {self._unknown(raw, unknown)}")
        return mask

    def _unknown(self, raw: npt.NDArray[np.unsignedinteger], at: npt.NDArray[np.bool_]) -> str:
        values, counts = np.unique(packed(raw[at]) if self.colours else raw[at], return_counts=True)
        y, x = np.argwhere(at)[0]
        commonest = np.argsort(-counts, kind="stable")
        listed = [f"{self.spell(int(values[i]))} ({counted(int(counts[i]), 'pixel')})" for i in commonest[:5]]
        more = [f"{len(values) - 5} more"] if len(values) > 5 else []
        details = f"that are no class, first at row {y}, column {x}: {', '.join(listed + more)}"
        if self.colours:
            return f"colours {details}"
        known = [code for codes in _codes(self) for code in codes]
        void = f", void {' and '.join(map(str, self.void))}" if self.void else ""
        return f"codes {details}; classes have {min(known)}..{max(known)}{void}"

    def spell(self, code: int) -> str:
        """A code in the notation of params.yaml: `NUMBER` or `R,G,B`."""
        return f"{code >> 16},{code >> 8 & 255},{code & 255}" if self.colours else str(code)

    def picture(self, mask: npt.NDArray[np.integer]) -> Image.Image:
        """The mask as a palette image: pixels are class numbers, colours are the class palette, void is white."""
        image = Image.fromarray(mask.astype(np.uint8))
        # Pad the palette to 256 colours: with a shorter one Pillow stores fewer bits per pixel, and VOID would be lost.
        colours = [value for rgb in self.palette for value in rgb]
        image.putpalette(colours + [255] * (768 - len(colours)))
        return image

    def png(self, mask: npt.NDArray[np.integer]) -> bytes:
        """`picture` encoded as PNG."""
        file = io.BytesIO()
        self.picture(mask).save(file, "PNG")
        return file.getvalue()


def packed(colours: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.uint32]:
    """Packs (…, 3) RGB values into (…) uint32 numbers 0xRRGGBB."""
    parts = colours.astype(np.uint32)
    return parts @ np.array([1 << 16, 1 << 8, 1], np.uint32)


def _codes(labels: Labels) -> tuple[tuple[int, ...], ...]:
    return labels.codes or tuple((number,) for number in range(len(labels.names)))


@lru_cache(maxsize=2)
def _table(labels: Labels) -> npt.NDArray[np.uint8]:
    """Lookup table from every possible raw code to its class, VOID or UNKNOWN."""
    table = np.full(1 << 24 if labels.colours else 1 << 16, UNKNOWN, np.uint8)
    for number, codes in enumerate(_codes(labels)):
        table[list(codes)] = number
    table[list(labels.void)] = VOID
    return table
