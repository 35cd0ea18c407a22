"""The packed split: the format of every data set after the resize stage.

One folder holds, for each ROLE of train and val,

    ROLE.images   uint8 RGB pixels of all images, concatenated, row by row
    ROLE.masks    uint8, classes 0..C-1 or VOID
    ROLE.csv      one row per image: id, sizes in pixels, offsets in bytes, void pixels, pixels per class

and classes.json (class names and colours) and scale.json (how val was resized). Images are decoded once;
afterwards the files are memory-mapped.
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
LONGEST = 1 << 20  # pixels, maximum width or height
MAX_NUMBER = 1 << 50  # of any number in the index; sums and products of valid sizes cannot overflow int64
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
    """Columns of the index. Class columns have a prefix, so that a class may be called `id` or `void`."""
    return [*COLUMNS, *(f"pixels:{name}" for name in labels.names)]


class Split:
    """Images and masks of one split, memory-mapped, so that several processes share the same memory."""

    def __init__(self, folder: Path, role: Role) -> None:
        self.labels = read_labels(folder)
        path = folder / f"{role}.csv"
        if not path.is_file():
            raise UserError(f"{path} is missing; run `dvc repro resize`")
        try:
            self.index = pd.read_csv(path, dtype={"id": str}, na_filter=False)  # an image may be called NA or null
        except ValueError as error:
            raise UserError(f"{path} is not a CSV table ({in_one_line(error)}); run `dvc repro resize`") from None
        expected = columns(self.labels)
        if list(self.index.columns) != expected or not isinstance(self.index.index, pd.RangeIndex):
            raise UserError(f"{path} has other columns than {', '.join(expected)}; run `dvc repro resize`")
        numbers = self.index[expected[1:]]
        sides = [column for column in COLUMNS if column.endswith(("height", "width"))]
        if (
            not len(numbers)
            or not all(t.kind == "i" for t in numbers.dtypes)
            or not ((numbers >= 0) & (numbers <= MAX_NUMBER)).all(axis=None)
            or not ((numbers[sides] >= 1) & (numbers[sides] <= LONGEST)).all(axis=None)
        ):
            raise UserError(f"{path} must hold whole numbers, one row per image; run `dvc repro resize`")
        for name, count in self.index["id"].value_counts().items():
            if count > 1 or not is_file_name(str(name)):
                what = "is duplicated" if count > 1 else "is not a valid file name"
                raise UserError(f"{path}: id {str(name)!r} {what}; run `dvc repro resize`")
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
        """(H, W) uint8, classes 0..C-1 or VOID, read-only; with `evaluate.size: native` in its original size."""
        height, width = int(self._mask_heights[i]), int(self._mask_widths[i])
        start = self._mask_offsets[i]
        return self._masks[start : start + height * width].reshape(height, width)

    def pixels(self) -> npt.NDArray[np.int64]:
        """(N, C) int64 number of pixels of each class in each mask; VOID is not counted."""
        return self.index[columns(self.labels)[len(COLUMNS) :]].to_numpy(np.int64)

    def absent(self) -> list[str]:
        """Names of the classes that occur in no mask of the split."""
        return [name for name, count in zip(self.labels.names, self.pixels().sum(0), strict=True) if not count]

    def void(self) -> float:
        """Fraction of mask pixels that are void."""
        void = int(self.index["void"].sum())
        return void / (void + int(self.pixels().sum()))


def is_file_name(name: str) -> bool:
    """Whether the name is a valid file name: no path separators and no control characters.

    Predictions are saved under the names of their images.
    """
    return name not in ("", ".", "..") and not any(char == "/" or category(char) in ("Cc", "Cs") for char in name)


def read_labels(folder: Path) -> Labels:
    """Class names and colours of a packed data set."""
    path = folder / "classes.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; run `dvc repro resize`")
    try:
        classes = TypeAdapter(dict[str, tuple[Byte, Byte, Byte]]).validate_json(path.read_bytes(), strict=True)
    except ValueError:
        classes = {}
    if not classes:
        raise UserError(f"{path} must map class names to colours; run `dvc repro resize`")
    return Labels(tuple(classes), tuple(classes.values()))


def read_scale(folder: Path) -> Scale:
    """How the images of val were resized."""
    path = folder / "scale.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; run `dvc repro resize`")
    try:
        return TypeAdapter(Scale).validate_json(path.read_bytes(), strict=True)
    except ValueError:
        raise UserError(f"{path} must hold a size and a tile; run `dvc repro resize`") from None


def _map(path: Path, ends: npt.NDArray[np.int64]) -> UInt8:
    """Memory-maps the file after checking its size against the index."""
    size = path.stat().st_size if path.is_file() else -1
    if size != ends.max():
        raise UserError(f"{path} has {max(size, 0)} bytes, its index says {ends.max()}; run `dvc repro resize`")
    return np.memmap(path, np.uint8, "r")
