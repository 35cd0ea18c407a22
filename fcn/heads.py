"""What one image and its mask show: size, kind, and the mask's codes."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from fcn import pictures
from fcn.errors import UserError, in_one_line
from fcn.labels import packed
from fcn.pairing import Pair

RASTER = 16_000_000  # pixels, from which an image is no photograph


@dataclass(frozen=True)
class Head:
    """What the first bytes of a picture say; the size is that of the upright picture, in pixels."""

    kind: str
    mode: str
    size: tuple[int, int]
    turned: bool


@dataclass(frozen=True)
class Seen:
    """An image and its mask: their heads, the mask's pixels by code, whether codes are colours; or what is wrong.

    content   what two images share only if they are the same
    """

    image: Head | None = None
    mask: Head | None = None
    codes: Mapping[int, int] = field(default_factory=dict)
    colours: bool = False
    content: str = ""
    error: str = ""


def look(folder: Path, pair: Pair, in_colours: bool = False) -> Seen:
    """One pair; broken files, lossy masks and sizes that differ are errors.

    in_colours   whether the classes are known by colours: then those of palette and grey masks are read too
    """
    try:
        image, mask = (_head(folder / name) for name in (pair.image, pair.mask))
        if image.size != mask.size:
            sizes = [f"{w}x{h}" for w, h in (mask.size, image.size)]
            turned = ", turned as its EXIF orientation says" if image.turned else ""
            raise UserError(f"{pair.mask} is {sizes[0]}, its image {pair.image} is {sizes[1]}{turned}")
        picture = pictures.load(folder / pair.mask, False)
        pictures.refuse_lossy(picture, folder / pair.mask)
        colours = in_colours or picture.mode in ("RGB", "RGBA")
        codes = _histogram(picture, folder / pair.mask, colours)
        return Seen(image, mask, codes, colours, _content(folder / pair.image, image))
    except UserError as error:
        return Seen(error=str(error).replace(f"{folder}/", ""))


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of an image when it is upright, from its first bytes."""
    return _head(path).size


def _head(path: Path) -> Head:
    with pictures.opened(path) as picture:
        try:
            orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception as error:  # EXIF has many ways to be broken, and Pillow no one word for them
            raise UserError(f"{path} has EXIF data that cannot be read ({in_one_line(error)})") from None
        width, height = picture.size
        upright = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
        return Head(picture.format or "", picture.mode, upright, orientation in range(2, 9))


def _histogram(picture: Image.Image, path: Path, colours: bool) -> dict[int, int]:
    if colours:
        counts = pictures.coloured(picture, path).getcolors(1 << 24) or []
        values = packed(np.array([colour for _, colour in counts], np.uint8).reshape(-1, 3)).tolist()
        return dict(zip(values, (pixels for pixels, _ in counts), strict=True))
    counted = np.bincount(pictures.codes(picture, path, False).ravel())
    return {int(code): int(counted[code]) for code in np.flatnonzero(counted)}


def _content(path: Path, head: Head) -> str:
    """Of the pixels, as resize compares them; of a raster's bytes, because its pixels need a gigabyte."""
    if math.prod(head.size) > RASTER:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return pictures.fingerprint(pictures.image(path, upright=True))


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
