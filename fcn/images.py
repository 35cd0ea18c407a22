"""A picture of any common kind as what the nets take: RGB, 8 bits a channel, upright."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fcn.errors import UserError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm")
LARGEST = 1 << 30  # pixels; Pillow holds four bytes for each


def open_image(source: Path | BinaryIO, name: str = "", largest: int = LARGEST) -> Image.Image:
    """The picture in a file: turned as its EXIF says, RGB, 8 bits a channel.

    16 bits of grey become value / 257, rounded (of 16 bits a colour Pillow gives the upper eight);
    alpha is dropped; a palette is looked up; CMYK is turned into RGB; of a moving picture the first.

    source   a path or an open file
    name     what it is called in an error; a path by itself
    largest  pixels that are not too many
    raises   UserError if it is missing, broken, too large, or has values of no known range
    """
    with _named(name or str(source)), Image.open(source, formats=FORMATS) as image:
        if image.width * image.height > largest:
            size = f"{image.width}×{image.height}"
            raise UserError(f"{name or source} is {size}; at most {largest} pixels are taken")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image, name or str(source))


def pixels(source: Path | BinaryIO, name: str = "") -> int:
    """How many an image has, as its header says."""
    with _named(name or str(source)), Image.open(source, formats=FORMATS) as image:
        return image.width * image.height


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turns what goes wrong with an image into a line with its name."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{name} is missing") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(f"{name} cannot be read ({error.strerror})") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is no picture of a known kind ({', '.join(FORMATS)})") from None
    except Exception as error:  # whatever a decoder can think of when it is given broken bytes
        raise UserError(
            f"{name} is no whole picture ({' '.join(str(error).split()) or type(error).__name__})"
        ) from None


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise UserError(f"{name} holds fractions, whose range is not known; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "I" and values.size and not 0 <= values.min() <= values.max() < 1 << 16:
            raise UserError(f"{name} has values outside 0..65535; save it with 8 or 16 bits")
        # 257 is odd: no value lies half-way.
        image = Image.fromarray(((np.arange(1 << 16) + 128) // 257).astype(np.uint8)[values])
    return image if image.mode == "RGB" else image.convert("RGB")


def find(places: list[str], beside: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The files that names, folders and patterns stand for, each once, folders in alphabetical order.

    beside   a folder whose files no folder stands for: where the results go
    returns  (root, file) for each, absolute: the root is the folder named, or the file's own; and
             what was found nowhere, a line each
    """
    found: dict[Path, Path] = {}
    lost = []
    for place in places:
        # Path.glob takes no absolute pattern.
        paths = [Path(place)] if Path(place).exists() else sorted(map(Path, glob.glob(place, recursive=True)))  # noqa: PTH207
        before = len(found)
        for path in paths:
            for root, file in _files(path.absolute(), beside.resolve()):
                found.setdefault(file, root)
        if not paths:
            lost.append(f"{place} is missing")
        elif len(found) == before and all(path.is_dir() for path in paths):
            lost.append(f"{place} holds no pictures ({', '.join(SUFFIXES)})")
    return [(root, file) for file, root in found.items()], lost


def _files(path: Path, beside: Path) -> Iterator[tuple[Path, Path]]:
    if not path.is_dir():
        yield path.parent, path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.suffix.lower() in SUFFIXES and not hidden and file.is_file():
            inside = path.resolve() != beside and file.resolve().is_relative_to(beside)
            if not inside:
                yield path, file
