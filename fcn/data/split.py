"""The packed split: what every data set looks like after resize, whatever it came from.

For each of train and val there are, in one folder,

    ROLE.images   uint8 RGB pixels of all images, one after the other, row by row
    ROLE.masks    uint8, classes 0..C-1 or VOID
    ROLE.csv      one row an image: id, sizes in pixels, offsets in bytes, void pixels, pixels per class

classes.json, the classes' names and colours, and scale.json, how val was resized. Decoded once, memory-mapped
afterwards.
"""

from pathlib import Path
from typing import Annotated, Literal
from unicodedata import category

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, TypeAdapter

from fcn.data.labels import Labels, UInt8
from fcn.data.scale import Scale
from fcn.runtime.errors import UserError, in_one_line

Role = Literal["train", "val"]
Byte = Annotated[int, Field(ge=0, le=255)]
LONGEST = 1 << 20  # pixels of a side
MOST = 1 << 50  # bytes; products of such sides and their sums stay far from 64 bits
COLUMNS = (
    "id",
    "height",
    "width",
    "offset",
    "mask_height",
    "mask_width",
    "mask_offset",
    "original_height",
    "original_width",
    "void",
)


def columns(labels: Labels) -> list[str]:
    """The index's columns. Those of classes have a prefix, so that a class may be called `id` or `void`."""
    return [*COLUMNS, *(f"pixels:{name}" for name in labels.names)]


class Split:
    """Images and masks of one split, memory-mapped; several processes share the same memory."""

    def __init__(self, folder: Path, role: Role) -> None:
        self.labels = read_labels(folder)
        path = folder / f"{role}.csv"
        if not path.is_file():
            raise UserError(f"{path} is missing; run `dvc repro resize`")
        try:
            self.index = pd.read_csv(path, dtype={"id": str}, na_filter=False)  # an image may be called NA or null
        except ValueError as error:
            raise UserError(f"{path} is no table ({in_one_line(error)}); run `dvc repro resize`") from None
        expected = columns(self.labels)
        if list(self.index.columns) != expected or not isinstance(self.index.index, pd.RangeIndex):
            raise UserError(f"{path} has other columns than {', '.join(expected)}; run `dvc repro resize`")
        numbers = self.index[expected[1:]]
        sides = [column for column in COLUMNS if column.endswith(("height", "width"))]
        if (
            not len(numbers)
            or not all(t.kind == "i" for t in numbers.dtypes)
            or not ((numbers >= 0) & (numbers <= MOST)).all(axis=None)
            or not ((numbers[sides] >= 1) & (numbers[sides] <= LONGEST)).all(axis=None)
        ):
            raise UserError(f"{path} must hold whole numbers, one row an image; run `dvc repro resize`")
        for name, count in self.index["id"].value_counts().items():
            if count > 1 or not is_file_name(str(name)):
                what = "twice" if count > 1 else "as a name, which no file can have"
                raise UserError(f"{path} has {str(name)!r} {what}; run `dvc repro resize`")
        rows = numbers[list(COLUMNS[1:])].to_numpy(np.int64)
        self._heights, self._widths, self._offsets = rows[:, 0], rows[:, 1], rows[:, 2]
        self._mask_heights, self._mask_widths, self._mask_offsets = rows[:, 3], rows[:, 4], rows[:, 5]
        self._images = _map(folder / f"{role}.images", self._offsets + 3 * self._heights * self._widths)
        self._masks = _map(folder / f"{role}.masks", self._mask_offsets + self._mask_heights * self._mask_widths)

    def __len__(self) -> int:
        return len(self.index)

    def name(self, i: int) -> str:
        return str(self.index["id"].iat[i])

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of image i, in pixels."""
        return int(self._heights[i]), int(self._widths[i])

    def image(self, i: int) -> UInt8:
        """(H, W, 3) uint8 RGB, read-only."""
        height, width = self.size(i)
        start = self._offsets[i]
        return self._images[start : start + 3 * height * width].reshape(height, width, 3)

    def mask(self, i: int) -> UInt8:
        """(H, W) uint8, classes 0..C-1 or VOID, read-only; with `evaluate.size: native` in its own size."""
        height, width = int(self._mask_heights[i]), int(self._mask_widths[i])
        start = self._mask_offsets[i]
        return self._masks[start : start + height * width].reshape(height, width)

    def pixels(self) -> npt.NDArray[np.int64]:
        """(N, C) pixels of each class in each mask; VOID is not counted."""
        return self.index[columns(self.labels)[len(COLUMNS) :]].to_numpy(np.int64)

    def absent(self) -> list[str]:
        """The classes that no mask of the split has."""
        return [name for name, count in zip(self.labels.names, self.pixels().sum(0), strict=True) if not count]

    def void(self) -> float:
        """The share of the masks' pixels that is void."""
        void = int(self.index["void"].sum())
        return void / (void + int(self.pixels().sum()))


def is_file_name(name: str) -> bool:
    """Whether a file in a folder can have this name: no path, and nothing that a terminal would obey.

    Predictions are written under the names of their images.
    """
    return name not in ("", ".", "..") and not any(sign == "/" or category(sign) in ("Cc", "Cs") for sign in name)


def read_labels(folder: Path) -> Labels:
    """Names and colours of the classes of a packed data set."""
    path = folder / "classes.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; run `dvc repro resize`")
    try:
        classes = TypeAdapter(dict[str, tuple[Byte, Byte, Byte]]).validate_json(path.read_bytes(), strict=True)
    except ValueError:
        classes = {}
    if not classes:
        raise UserError(f"{path} must hold a colour by class name; run `dvc repro resize`")
    return Labels(tuple(classes), tuple(classes.values()))


def read_scale(folder: Path) -> Scale:
    """How the images of the val split were resized."""
    path = folder / "scale.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; run `dvc repro resize`")
    try:
        return TypeAdapter(Scale).validate_json(path.read_bytes(), strict=True)
    except ValueError:
        raise UserError(f"{path} must hold a size and a tile; run `dvc repro resize`") from None


def _map(path: Path, ends: npt.NDArray[np.int64]) -> UInt8:
    """The file as an array, once it is known to hold what the index says."""
    size = path.stat().st_size if path.is_file() else -1
    if size != ends.max():
        raise UserError(f"{path} has {max(size, 0)} bytes, its index says {ends.max()}; run `dvc repro resize`")
    return np.memmap(path, np.uint8, "r")
