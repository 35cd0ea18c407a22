"""Scan one image and its mask: size, format, mode, and the mask's codes."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from fcn.data.labels import packed
from fcn.datasets.pairing import Pair
from fcn.io import images
from fcn.runtime.errors import UserError, in_one_line

MAX_MEMORY = 880_000_000  # bytes for the file and pixels of one image; about 1 GB with the program itself
BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # per pixel in memory, by mode; Pillow uses 4 for all other modes
BANDS = "bands"  # end of the mode of a TIFF that Pillow does not read
MAX_CODES = 1024  # of one mask; there are at most 253 classes, which may have several codes each
RASTER = 16_000_000  # pixels; a larger image is treated as a raster, not a photograph


@dataclass(frozen=True)
class ImageInfo:
    """Header information of an image file.

    size      width and height in pixels, after EXIF orientation
    rotated   whether the EXIF orientation changes the image
    """

    kind: str
    mode: str
    size: tuple[int, int]
    rotated: bool


@dataclass(frozen=True)
class ScannedPair:
    """The scan of an image and its mask, or the error.

    codes     pixels of the mask by code
    colours   whether codes are colours
    content   fingerprint of the image
    """

    image: ImageInfo | None = None
    mask: ImageInfo | None = None
    codes: Mapping[int, int] = field(default_factory=dict)
    colours: bool = False
    content: str = ""
    error: str = ""


def scan_pair(folder: Path, pair: Pair, in_colours: bool = False) -> ScannedPair:
    """Scan one pair. Broken files, lossy masks and different sizes are errors.

    in_colours   whether classes are declared by colours; then palette and greyscale masks are read as colours too
    """
    try:
        image = information(folder / pair.image)
        path = folder / pair.mask
        picture = _opened(path)
        mask = _info(picture, path)
        if image.size != mask.size:
            sizes = [f"{w}x{h}" for w, h in (mask.size, image.size)]
            rotated = " after EXIF orientation" if image.rotated else ""
            raise UserError(f"{pair.mask} is {sizes[0]}, its image {pair.image} is {sizes[1]}{rotated}")
        with images.decoding(str(path)):
            picture.load()
        images.refuse_lossy(picture, path)
        colours = in_colours or picture.mode in ("RGB", "RGBA")
        codes = _histogram(picture, path, colours)
        return ScannedPair(image, mask, codes, colours, _content(folder / pair.image, image))
    except UserError as error:
        return ScannedPair(error=str(error).replace(f"{folder}/", ""))


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of an image after EXIF orientation; reads the header only."""
    return information(path).size


def information(path: Path) -> ImageInfo:
    """The header of an image, or of a TIFF with more bands than Pillow reads."""
    try:
        with _opened(path) as picture:
            return _info(picture, path)
    except UserError:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise
        try:
            width, height, count = images.band_sizes(path)
        except UserError:
            count = 0
        if count < 3:
            raise
        return ImageInfo("TIFF", f"{count} {BANDS}", (width, height), False)


def _opened(path: Path) -> Image.Image:
    """As `images.opened`.

    raises   UserError also if file and pixels, which are in memory at the same time, exceed MAX_MEMORY
    """
    picture = images.opened(path)
    needed = path.stat().st_size + picture.width * picture.height * BYTES.get(picture.mode, 4)
    if needed > MAX_MEMORY:
        raise UserError(
            f"{path} needs {needed / 1e9:.1f} GB of memory, limit {MAX_MEMORY / 1e9:.1f} GB; cut it into several files"
        )
    return picture


def _info(picture: Image.Image, path: Path) -> ImageInfo:
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # Pillow raises exceptions of many types for broken EXIF data
        raise UserError(f"{path} has EXIF data that cannot be read ({in_one_line(error)})") from None
    width, height = picture.size
    upright = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    return ImageInfo(picture.format or "", picture.mode, upright, orientation in range(2, 9))


def _histogram(picture: Image.Image, path: Path, colours: bool) -> dict[int, int]:
    """Pixels by code.

    raises   UserError if there are more codes than a mask can have; the codes of all masks must fit into memory
    """
    counted: Counter[int] = Counter()
    for strip in images.strips(picture):
        counted.update(_colours(strip, path) if colours else _codes(strip, path))
        if len(counted) > MAX_CODES:
            raise UserError(
                f"{path} holds more than {MAX_CODES} {'colours' if colours else 'codes'}; a mask holds one per class: "
                "is it a photograph, antialiased, or saved in a lossy format?"
            )
    return dict(sorted(counted.items()))


def _colours(strip: Image.Image, path: Path) -> dict[int, int]:
    rgb = images.coloured(strip, path)
    counts = rgb.getcolors(MAX_CODES)
    if counts is None:  # too many colours; the caller needs only their number, so the counts may be wrong
        return dict.fromkeys(np.unique(packed(np.asarray(rgb))).tolist(), 1)
    values = packed(np.array([colour for _, colour in counts], np.uint8).reshape(-1, 3)).tolist()
    return dict(zip(values, (pixels for pixels, _ in counts), strict=True))


def _codes(strip: Image.Image, path: Path) -> dict[int, int]:
    counted = np.bincount(images.codes(strip, path, False).ravel())
    return {int(code): int(counted[code]) for code in np.flatnonzero(counted)}


def _content(path: Path, info: ImageInfo) -> str:
    """A fingerprint of the pixels, as used by resize; for a raster, of the file, because its pixels need 1 GB."""
    if math.prod(info.size) > RASTER:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    pixels = images.bands(path) if info.mode.endswith(BANDS) else images.image(path, upright=True)
    return images.fingerprint(pixels)


def conversion(mode: str) -> str:
    """How an image of a mode is converted to RGB; empty for RGB."""
    if mode.endswith(BANDS):
        return f"{mode}, all of which the net sees (data.inputs: bands)"
    if mode.startswith("I"):
        return "16-bit greyscale, converted to 8-bit RGB by round(v / 257)"
    rules = {
        "RGB": "",
        "L": "greyscale, converted to RGB",
        "1": "black and white, converted to RGB",
        "RGBA": "alpha channel dropped (data.inputs: bands keeps it if it is a fourth band)",
        "LA": "greyscale with alpha, converted to RGB without alpha",
        "P": "palette, converted to RGB",
    }
    return rules.get(mode, f"mode {mode}, converted to RGB")
