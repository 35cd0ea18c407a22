"""What one image and its mask show: size, kind, and the mask's codes."""

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

MEMORY = 880_000_000  # bytes for one picture, as a file and as pixels; with what the program itself takes 1 GB
BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # of a pixel in memory; Pillow gives those of other modes 4
MOST_CODES = 1024  # of one mask; there are at most 253 classes, which may have several codes
RASTER = 16_000_000  # pixels, from which an image is no photograph


@dataclass(frozen=True)
class ImageInfo:
    """What the first bytes of a picture say; the size is that of the upright picture, in pixels."""

    kind: str
    mode: str
    size: tuple[int, int]
    turned: bool


@dataclass(frozen=True)
class ScannedPair:
    """An image and its mask: their heads, the mask's pixels by code, whether codes are colours; or what is wrong.

    content   what two images share only if they are the same
    """

    image: ImageInfo | None = None
    mask: ImageInfo | None = None
    codes: Mapping[int, int] = field(default_factory=dict)
    colours: bool = False
    content: str = ""
    error: str = ""


def scan_pair(folder: Path, pair: Pair, in_colours: bool = False) -> ScannedPair:
    """One pair; broken files, lossy masks and sizes that differ are errors.

    in_colours   whether the classes are known by colours: then those of palette and grey masks are read too
    """
    try:
        image = _head(_opened(folder / pair.image), folder / pair.image)
        path = folder / pair.mask
        picture = _opened(path)
        mask = _head(picture, path)
        if image.size != mask.size:
            sizes = [f"{w}x{h}" for w, h in (mask.size, image.size)]
            turned = ", turned as its EXIF orientation says" if image.turned else ""
            raise UserError(f"{pair.mask} is {sizes[0]}, its image {pair.image} is {sizes[1]}{turned}")
        with images.naming(str(path)):
            picture.load()
        images.refuse_lossy(picture, path)
        colours = in_colours or picture.mode in ("RGB", "RGBA")
        codes = _histogram(picture, path, colours)
        return ScannedPair(image, mask, codes, colours, _content(folder / pair.image, image))
    except UserError as error:
        return ScannedPair(error=str(error).replace(f"{folder}/", ""))


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of an image when it is upright, from its first bytes."""
    with _opened(path) as picture:
        return _head(picture, path).size


def _opened(path: Path) -> Image.Image:
    """As `pictures.opened`.

    raises   UserError also if file and pixels, which are in memory at the same time, would need too much of it
    """
    picture = images.opened(path)
    needed = path.stat().st_size + picture.width * picture.height * BYTES.get(picture.mode, 4)
    if needed > MEMORY:
        raise UserError(
            f"{path} takes {needed / 1e9:.1f} GB to be read, more than {MEMORY / 1e9:.1f} GB; cut it into several files"
        )
    return picture


def _head(picture: Image.Image, path: Path) -> ImageInfo:
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # EXIF has many ways to be broken, and Pillow no one word for them
        raise UserError(f"{path} has EXIF data that cannot be read ({in_one_line(error)})") from None
    width, height = picture.size
    upright = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    return ImageInfo(picture.format or "", picture.mode, upright, orientation in range(2, 9))


def _histogram(picture: Image.Image, path: Path, colours: bool) -> dict[int, int]:
    """Pixels by code.

    raises   UserError if there are more codes than any mask has: those of every mask must fit into memory
    """
    counted: Counter[int] = Counter()
    for strip in images.strips(picture):
        counted.update(_colours(strip, path) if colours else _codes(strip, path))
        if len(counted) > MOST_CODES:
            raise UserError(
                f"{path} holds more than {MOST_CODES} {'colours' if colours else 'codes'}, a mask one for each class: "
                "is it a photograph, drawn with soft edges, or saved in a lossy format?"
            )
    return dict(sorted(counted.items()))


def _colours(strip: Image.Image, path: Path) -> dict[int, int]:
    plain = images.coloured(strip, path)
    counts = plain.getcolors(MOST_CODES)
    if counts is None:  # of each colour one pixel will do to say that there are too many
        return dict.fromkeys(np.unique(packed(np.asarray(plain))).tolist(), 1)
    values = packed(np.array([colour for _, colour in counts], np.uint8).reshape(-1, 3)).tolist()
    return dict(zip(values, (pixels for pixels, _ in counts), strict=True))


def _codes(strip: Image.Image, path: Path) -> dict[int, int]:
    counted = np.bincount(images.codes(strip, path, False).ravel())
    return {int(code): int(counted[code]) for code in np.flatnonzero(counted)}


def _content(path: Path, head: ImageInfo) -> str:
    """Of the pixels, as resize compares them; of a raster's bytes, because its pixels need a gigabyte."""
    if math.prod(head.size) > RASTER:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return images.fingerprint(images.image(path, upright=True))


def rule(mode: str) -> str:
    """How an image of a mode becomes RGB; nothing for one that is."""
    if mode.startswith("I"):
        return "grey of 16 bits, made 8-bit RGB by round(v / 257)"
    named = {
        "RGB": "",
        "L": "grey, made RGB",
        "1": "black and white, made RGB",
        "RGBA": "alpha, dropped",
        "LA": "grey with alpha, made RGB without it",
        "P": "palette, made RGB",
    }
    return named.get(mode, f"mode {mode}, made RGB")
