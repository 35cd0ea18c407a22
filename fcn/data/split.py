"""The packed split: the format of every data set after the resize stage.

One folder holds, for each ROLE of train and val,

    ROLE.images   uint8 pixels of all images, concatenated, row by row: RGB, or the channels of all inputs
    ROLE.masks    uint8, classes 0..C-1 or VOID; two values per pixel if images have semantic and geometric labels
    ROLE.csv      one row per image: id, sizes in pixels, offsets in bytes, void pixels, pixels per class

and classes.json (class names and colours), scale.json (how val was resized), inputs.json (channels of each input, if
they are not RGB alone) and geometric.json (the geometric classes, if images have both labels). Images are decoded
once; afterwards the files are memory-mapped.
"""

from copy import copy
from pathlib import Path
from typing import Annotated, Literal
from unicodedata import category

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, TypeAdapter

from fcn.data.labels import Labels, UInt8
from fcn.data.scale import Scale
from fcn.params import Input
from fcn.runtime.errors import UserError, in_one_line

Role = Literal["train", "val", "test"]
Byte = Annotated[int, Field(ge=0, le=255)]
LONGEST = 1 << 20  # pixels, maximum width or height
MAX_CHANNELS = 64
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
VOID_GEOMETRIC = "geometric_void"


def columns(labels: Labels, geometric: Labels | None = None) -> list[str]:
    """Columns of the index. Class columns have a prefix, so that a class may be called `id` or `void`."""
    second = [VOID_GEOMETRIC, *(f"geometric:{name}" for name in geometric.names)] if geometric else []
    return [*COLUMNS, *(f"pixels:{name}" for name in labels.names), *second]


class Split:
    """Images and masks of one split, memory-mapped, so that several processes share the same memory.

    labels     classes of `mask`
    geometric  the second labels, or None
    inputs     channels of each input, by name, in the order of the channels
    """

    def __init__(self, folder: Path, role: Role) -> None:
        self.labels, self.geometric, self.inputs = read_labels(folder), read_geometric(folder), read_inputs(folder)
        self.channels, self._paths, self._path = sum(self.inputs.values()), 2 if self.geometric else 1, 0
        path = folder / f"{role}.csv"
        if not path.is_file():
            raise UserError(f"{path} is missing; run `dvc repro resize`")
        try:
            self.index = pd.read_csv(path, dtype={"id": str}, na_filter=False)  # an image may be called NA or null
        except ValueError as error:
            raise UserError(f"{path} is not a CSV table ({in_one_line(error)}); run `dvc repro resize`") from None
        expected = columns(self.labels, self.geometric)
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
        mask_sizes = self._paths * self._mask_heights * self._mask_widths
        self._images = _map(folder / f"{role}.images", self._offsets + self.channels * self._heights * self._widths)
        self._masks = _map(folder / f"{role}.masks", self._mask_offsets + mask_sizes)

    def tasks(self) -> "list[Split]":
        """The split once per score path: with its labels, and with its geometric labels if it has them too."""
        if self.geometric is None:
            return [self]
        second = copy(self)
        second.labels, second._path = self.geometric, 1
        return [self, second]

    def __len__(self) -> int:
        return len(self.index)

    def name(self, i: int) -> str:
        return str(self.index["id"].iat[i])

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of image i, in pixels."""
        return int(self._heights[i]), int(self._widths[i])

    def image(self, i: int) -> UInt8:
        """(H, W, channels) uint8, RGB first if it is an input, read-only."""
        height, width = self.size(i)
        start = self._offsets[i]
        return self._images[start : start + self.channels * height * width].reshape(height, width, self.channels)

    def picture(self, i: int) -> UInt8:
        """(H, W, 3) uint8 to look at: `picture` of the image."""
        return picture(self.image(i))

    def mask(self, i: int) -> UInt8:
        """(H, W) uint8, classes 0..C-1 or VOID, read-only; with `evaluate.size: native` in its original size."""
        return self.masks(i)[:, :, self._path]

    def masks(self, i: int) -> UInt8:
        """(H, W, 1 or 2) uint8: the mask of each score path."""
        height, width = int(self._mask_heights[i]), int(self._mask_widths[i])
        start = self._mask_offsets[i]
        return self._masks[start : start + self._paths * height * width].reshape(height, width, self._paths)

    def pixels(self) -> npt.NDArray[np.int64]:
        """(N, C) int64 number of pixels of each class in each mask; VOID is not counted."""
        prefix = "geometric" if self._path else "pixels"
        return self.index[[f"{prefix}:{name}" for name in self.labels.names]].to_numpy(np.int64)

    def absent(self) -> list[str]:
        """Names of the classes that occur in no mask of the split."""
        return [name for name, count in zip(self.labels.names, self.pixels().sum(0), strict=True) if not count]

    def void(self) -> float:
        """Fraction of mask pixels that are void."""
        void = int(self.index[VOID_GEOMETRIC if self._path else "void"].sum())
        return void / (void + int(self.pixels().sum()))


def picture(image: UInt8) -> UInt8:
    """The first three channels of an image, (H, W, 3), or the first one in grey if there are fewer."""
    return image[:, :, :3] if image.shape[2] >= 3 else image[:, :, :1].repeat(3, 2)


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
    return _labels(path)


def read_geometric(folder: Path) -> Labels | None:
    """The geometric classes of a packed data set that has both labels."""
    path = folder / "geometric.json"
    return _labels(path) if path.is_file() else None


def read_inputs(folder: Path) -> dict[str, int]:
    """The channels of each input of a packed data set, in order."""
    path = folder / "inputs.json"
    if not path.is_file():
        return {"rgb": 3}
    try:
        inputs = TypeAdapter(dict[Input, Annotated[int, Field(ge=1, le=MAX_CHANNELS)]]).validate_json(
            path.read_bytes(), strict=True
        )
    except ValueError:
        inputs = {}
    if not inputs:
        raise UserError(f"{path} must map the names of inputs to their channels; run `dvc repro resize`")
    return {str(name): channels for name, channels in inputs.items()}


def _labels(path: Path) -> Labels:
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
