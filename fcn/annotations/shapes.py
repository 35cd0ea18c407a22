"""Shapes of an annotated image, and the mask that they make.

Shapes are drawn in order, so a later one covers an earlier one. The pixels of a polygon depend on the tool:

    pillow   Pillow's `ImageDraw.polygon` with its outline, as LabelMe draws
    coco     pycocotools' `frPyObjects`, the union of all parts; for COCO, CVAT and Label Studio

A polygon has no holes; where its outline crosses itself, the even-odd rule applies. Parts outside the image are cut.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fcn.data.labels import VOID, UInt8
from fcn.io import images
from fcn.runtime.errors import UserError, counted

MAX_POINTS = 100_000  # of a polygon; drawing takes time in proportion to points times rows
MAX_COORDINATE = 100_000  # pixels
MAX_LENGTH = 5_000_000  # pixels, of a polygon's outline; pycocotools stores five points for each of them
MAX_DIGITS = 13  # base-32 digits of a compressed run length, 64 bits
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Polygon:
    """A closed outline, or several.

    parts   (points, 2) x and y of each outline, in pixels; 0 is the left or upper edge of the image
    """

    parts: tuple[Floats, ...]
    rule: Literal["pillow", "coco"]


@dataclass(frozen=True)
class Box:
    """All pixels that an upright rectangle, or the ellipse in it, touches, by Pillow's rule; corners in pixels."""

    left: float
    top: float
    right: float
    bottom: float
    ellipse: bool = False


@dataclass(frozen=True)
class Runs:
    """Run lengths of a part of the image, beginning with those outside of the shape.

    box          left, top, width and height in pixels
    by_columns   whether runs go down the columns, as COCO's
    """

    lengths: npt.NDArray[np.int64]
    box: tuple[int, int, int, int]
    by_columns: bool

    def bitmap(self) -> npt.NDArray[np.bool_]:
        """(height, width) the shape within its box."""
        inside = np.repeat(np.arange(len(self.lengths)) % 2 == 1, self.lengths)
        _, _, width, height = self.box
        return inside.reshape(width, height).T if self.by_columns else inside.reshape(height, width)


@dataclass(frozen=True)
class Encoded:
    """A PNG of the shape: pixels that are not 0. Its upper left corner is at (left, top)."""

    png: bytes
    left: int
    top: int


@dataclass(frozen=True)
class Brush:
    """Label Studio's run lengths of the bytes of an RGBA image; the shape is where alpha is not 0."""

    content: bytes


@dataclass(frozen=True)
class Segment:
    """The pixels of a panoptic PNG that hold an id, R + 256 G + 65536 B; the path is relative to the folder."""

    path: str
    number: int


@dataclass(frozen=True)
class Shape:
    """An area and its class; label None is void."""

    label: str | None
    area: Polygon | Box | Runs | Encoded | Brush | Segment
    where: str  # names it in errors


@dataclass
class Annotated:
    """The shapes of an image in drawing order.

    file       the annotation file, relative to the folder
    image      the image's path as the file has it
    size       width and height as the file has them
    rest_void  whether pixels without a shape are void, not background
    skipped    number of shapes without an area, by kind
    """

    file: str
    image: str
    size: tuple[int, int] | None
    shapes: list[Shape] = field(default_factory=list)
    rest_void: bool = False
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass
class Annotations:
    """The content of an annotation file. `classes` are those that it declares, in their order."""

    tool: str
    images: list[Annotated]
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def points(values: object, where: str) -> Floats:
    """(N, 2) coordinates of an outline of at least three points.

    raises   UserError if there are too few or too many, or they are not finite or absurdly far outside the image
    """
    found = np.asarray(values, np.float64).reshape(-1, 2)
    if not 3 <= len(found) <= MAX_POINTS:
        raise UserError(f"{where}: {counted(len(found), 'point')}; a polygon has 3 to {MAX_POINTS}")
    coordinates(found, where)
    closed = np.diff(found, axis=0, append=found[:1])
    if np.abs(closed).sum() > MAX_LENGTH:
        raise UserError(f"{where}: its outline is longer than {MAX_LENGTH} pixels")
    return found


def coordinates(values: object, where: str) -> None:
    """raises UserError if coordinates are not finite or absurdly far outside the image"""
    found = np.asarray(values, np.float64)
    if not np.isfinite(found).all():
        raise UserError(f"{where}: a coordinate is not finite")
    if (np.abs(found) > MAX_COORDINATE).any():
        raise UserError(f"{where}: the coordinate {found.flat[np.abs(found).argmax()]:g} is far outside the image")


def runs(lengths: Sequence[int], box: tuple[int, int, int, int], by_columns: bool, where: str) -> Runs:
    """raises UserError if the runs do not fill the box"""
    *_, width, height = box
    try:
        found = np.asarray(lengths, np.int64)
    except OverflowError:
        found = np.array([-1])
    sizes = max(map(abs, box)) <= MAX_COORDINATE and width > 0 and height > 0
    if not sizes or (found < 0).any() or (found > width * height).any() or found.sum() != width * height:
        raise UserError(f"{where}: its runs do not fill {width}x{height} pixels")
    return Runs(found, box, by_columns)


def uncompressed(text: str, where: str) -> list[int]:
    """Run lengths of COCO's compressed form: base 32, lowest digit first, as differences to the run before the last."""
    lengths, value, digits = list[int](), 0, 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or digits == MAX_DIGITS:
            raise UserError(f"{where}: its compressed runs hold {letter!r}, or a number of more than 64 bits")
        value |= (code & 31) << 5 * digits
        digits += 1
        if not code & 32:
            value -= (code & 16) << 1 + 5 * (digits - 1)  # the sign
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = digits = 0
    return lengths


def mask(annotated: Annotated, size: tuple[int, int], codes: Mapping[str | None, int], folder: Path) -> UInt8:
    """(H, W) the shapes drawn in order with the codes of their labels; pixels without a shape are 0, or void.

    size     width and height of the image
    folder   that of the annotations
    raises   UserError if a shape does not fit the image or cannot be decoded
    """
    picture = Image.new("L", size, VOID if annotated.rest_void else 0)
    for shape in annotated.shapes:
        _draw(picture, shape, codes[shape.label], folder)
    return np.asarray(picture)


def _draw(picture: Image.Image, shape: Shape, code: int, folder: Path) -> None:
    area, draw = shape.area, ImageDraw.Draw(picture)
    match area:
        case Polygon(parts, "pillow"):
            for part in parts:
                draw.polygon([(x, y) for x, y in part.tolist()], outline=code, fill=code)
        case Polygon(parts):
            _paste(picture, _coco(parts, picture.size), (0, 0), code)
        case Box(left, top, right, bottom, ellipse):
            (draw.ellipse if ellipse else draw.rectangle)((left, top, right, bottom), outline=code, fill=code)
        case Runs(box=box):
            _fits(picture, box, shape.where)
            _paste(picture, area.bitmap(), box[:2], code)
        case Encoded(png, left, top):
            bitmap = np.asarray(images.load(png, False, shape.where, picture.width * picture.height)) != 0
            _fits(picture, (left, top, bitmap.shape[1], bitmap.shape[0]), shape.where)
            _paste(picture, bitmap, (left, top), code)
        case Brush(content):
            _paste(picture, _brushed(content, picture.size, shape.where), (0, 0), code)
        case Segment(path, number):
            numbers = _numbers(folder / path)
            _fits(picture, (0, 0, numbers.shape[1], numbers.shape[0]), shape.where)
            _paste(picture, numbers == number, (0, 0), code)


def _fits(picture: Image.Image, box: tuple[int, int, int, int], where: str) -> None:
    left, top, width, height = box
    if left < 0 or top < 0 or left + width > picture.width or top + height > picture.height:
        raise UserError(
            f"{where}: its {width}x{height} pixels at {left},{top} do not fit into the image, "
            f"{picture.width}x{picture.height}"
        )


def _paste(picture: Image.Image, bitmap: npt.NDArray[np.bool_], at: tuple[int, int], code: int) -> None:
    picture.paste(code, (*at, at[0] + bitmap.shape[1], at[1] + bitmap.shape[0]), Image.fromarray(bitmap))


def _coco(parts: Sequence[Floats], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError("these polygons need the package pycocotools: pip install 'fcn[annotations]'") from None
    merged = mask.merge(mask.frPyObjects([part.ravel().tolist() for part in parts], size[1], size[0]))
    # mask.decode, which does the same, gives a warning with numpy 2.
    return runs(uncompressed(merged["counts"].decode(), ""), (0, 0, *size), True, "").bitmap()


def _brushed(content: bytes, size: tuple[int, int], where: str) -> npt.NDArray[np.bool_]:
    """The pixels of Label Studio's run lengths, which are bit fields of various widths.

    After the number of bytes (32 bits), the width of a value - 1 (5) and the widths of four kinds of lengths - 1 (4
    each) come runs: a bit that tells one repeated value from a list of values, a kind (2), the length - 1, the values.
    """
    position, end = 0, 8 * len(content)

    def read(bits: int) -> int:
        nonlocal position
        if position + bits > end:
            raise UserError(f"{where}: its run lengths end too early")
        field = int.from_bytes(content[position >> 3 : (position + bits + 7) >> 3])
        position += bits
        return field >> (-position & 7) & ((1 << bits) - 1)

    total, width, widths = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1] or width != 8:
        raise UserError(f"{where}: its run lengths are not those of an RGBA image of {size[0]}x{size[1]}")
    values, at = np.zeros(total, np.uint8), 0
    while at < total:
        repeated = read(1)
        stop = at + 1 + read(widths[read(2)])
        if stop > total:
            raise UserError(f"{where}: its run lengths are longer than the image")
        values[at:stop] = read(8) if repeated else [read(8) for _ in range(stop - at)]
        at = stop
    alpha = values.reshape(size[1], size[0], 4)[..., 3]
    return np.asarray(alpha != 0)


@lru_cache(maxsize=1)
def _numbers(path: Path) -> npt.NDArray[np.uint32]:
    """(H, W) the ids of a panoptic PNG."""
    rgb = images.load(path, False)
    if rgb.mode != "RGB" or rgb.format == "JPEG":
        raise UserError(f"{path} has mode {rgb.mode}; a panoptic PNG is RGB")
    return np.asarray(rgb).astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
