"""Classes and colours of every data set, and the one value that is no class."""

import io
from dataclasses import dataclass
from functools import lru_cache
from unicodedata import category

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcn.runtime.errors import UserError, counted

VOID = 255  # torch's ignore_index, and VOC's own value
UNKNOWN = 254  # in a table of codes: neither class nor void; no data set has so many classes
MOST = 254  # classes: UNKNOWN and VOID are none
LONGEST = 200  # letters of a name
STRIP = 256  # rows of a mask that are decoded at once, so that a raster needs little memory

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Labels:
    """The classes of a data set, in the order of their numbers.

    names    one per class 0..C-1
    palette  (red, green, blue) per class, 0..255
    void     codes of the raw masks that count as no class
    codes    of each class in the raw masks, one or more of up to 16 bits; none given: their own numbers
    colours  whether raw masks are RGB pictures, and codes, also of void, their colours as 0xRRGGBB
    """

    __pydantic_config__ = {"extra": "ignore"}  # older model files say how raw masks spelt the classes  # noqa: RUF012

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    void: tuple[int, ...] = (VOID,)
    codes: tuple[tuple[int, ...], ...] = ()
    colours: bool = False

    def wrong(self) -> str:
        """Why these cannot be the classes of a data set, in a few words; empty if they can."""
        if not 0 < len(self.names) <= MOST:
            return f"{len(self.names)} classes, not 1 to {MOST}"
        for name in self.names:
            if not 0 < len(name) <= LONGEST or any(category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in name):
                return f"a class is called {name[:LONGEST]!r}; a name has 1 to {LONGEST} letters and no line breaks"
            if "</" in name:  # DVC writes names as they are into the script of its plots page
                return f"a class is called {name!r}; a name does not contain </"
            if self.names.count(name) > 1:
                return f"two classes are called {name!r}"
        if len(self.palette) != len(self.names):
            return f"{len(self.palette)} colours for {len(self.names)} classes"
        if not all(0 <= value <= 255 for colour in self.palette for value in colour):
            return "a colour outside 0..255"
        return ""

    def decode(self, raw: npt.NDArray[np.unsignedinteger], where: str) -> npt.NDArray[np.uint8]:
        """The mask, classes 0..C-1 or VOID, of a raw one.

        raw      (H, W) uint8 or uint16 codes, or (H, W, 3) uint8 RGB
        raises   UserError listing the codes that are neither class nor void, with pixels and the first place
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
        found = f"that are no class, first at row {y}, column {x}: {', '.join(listed + more)}"
        if self.colours:
            return f"colours {found}"
        known = [code for codes in _codes(self) for code in codes]
        void = f", void {' and '.join(map(str, self.void))}" if self.void else ""
        return f"codes {found}; classes have {min(known)}..{max(known)}{void}"

    def spell(self, code: int) -> str:
        """A code as one writes it in params.yaml: a number, or red, green and blue."""
        return f"{code >> 16},{code >> 8 & 255},{code & 255}" if self.colours else str(code)

    def picture(self, mask: npt.NDArray[np.integer]) -> Image.Image:
        """A mask as a palette picture: its pixels are class numbers, its colours the classes'; void is white."""
        image = Image.fromarray(mask.astype(np.uint8))
        # All 256 colours: Pillow packs a shorter palette's pixels into fewer bits, and VOID would be lost.
        colours = [value for rgb in self.palette for value in rgb]
        image.putpalette(colours + [255] * (768 - len(colours)))
        return image

    def png(self, mask: npt.NDArray[np.integer]) -> bytes:
        """The same picture as a file's bytes."""
        file = io.BytesIO()
        self.picture(mask).save(file, "PNG")
        return file.getvalue()


def packed(colours: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.uint32]:
    """(…, 3) red, green and blue as (…) numbers 0xRRGGBB."""
    parts = colours.astype(np.uint32)
    return parts @ np.array([1 << 16, 1 << 8, 1], np.uint32)


def _codes(labels: Labels) -> tuple[tuple[int, ...], ...]:
    return labels.codes or tuple((number,) for number in range(len(labels.names)))


@lru_cache(maxsize=2)
def _table(labels: Labels) -> npt.NDArray[np.uint8]:
    """The class, VOID or UNKNOWN of each code that a raw mask can hold."""
    table = np.full(1 << 24 if labels.colours else 1 << 16, UNKNOWN, np.uint8)
    for number, codes in enumerate(_codes(labels)):
        table[list(codes)] = number
    table[list(labels.void)] = VOID
    return table


def look_up(codes: npt.NDArray[np.number], table: npt.NDArray[np.uint8], where: str) -> npt.NDArray[np.uint8]:
    """The mask, classes 0..C-1 or VOID, of one whose codes are not simply its classes.

    codes    (H, W) whole numbers of any type
    table    (K,) uint8, class or VOID of each code 0..K-1
    raises   UserError naming the first pixel whose code is not in the table
    """
    known = (codes >= 0) & (codes < len(table))
    whole = np.where(known, codes, 0).astype(np.int64)
    known &= whole == codes
    if not known.all():
        y, x = np.argwhere(~known)[0]
        raise UserError(f"{where} has class {codes[y, x]:g} at row {y}, column {x}; only 0..{len(table) - 1} are known")
    return table[whole]


def from_one(classes: int) -> npt.NDArray[np.uint8]:
    """(C + 1,) uint8: the class of codes that MATLAB counts from one, where 0 is void."""
    return np.array([VOID, *range(classes)], np.uint8)
