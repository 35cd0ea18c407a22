"""Pictures that others made: any image as 8-bit RGB, any mask as classes, by rules that docs/data.md lists."""

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fcn.data.labels import STRIP, Labels, UInt8
from fcn.runtime.errors import UserError, in_one_line
from fcn.runtime.files import read_regular

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # others of Pillow's start programs, or nobody uses
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm")
LARGEST = 178_956_970  # pixels: Pillow's own limit, for what every core decodes one of
LARGEST_FILE = 700 << 20  # bytes: of that many pixels in RGBA, not compressed


def opened(source: Path | bytes, name: str = "", largest: int = LARGEST) -> Image.Image:
    """A picture of which no more than the head is read.

    source   a file, or what one holds
    name     what it is called in an error; a file by its path
    largest  pixels that are not too many
    raises   UserError if it is missing, no picture, or too large
    """
    name = name or str(source)
    # From memory: asked for a part of 4 GB, a file would make room for it before it finds that it has none.
    content = source if isinstance(source, bytes) else read_regular(source, LARGEST_FILE)
    # Pillow's one limit for all would be asked again wherever a picture is decoded or cut; `largest` is each caller's.
    Image.MAX_IMAGE_PIXELS = None
    with naming(name):
        picture = Image.open(BytesIO(content), formats=FORMATS)
    if picture.width * picture.height > largest:
        raise UserError(f"{name} has more than {largest // 10**6} million pixels; cut it into several files")
    return picture


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Says in one line, with the picture's name, what Pillow finds to be wrong with it."""
    try:
        yield
    except UnidentifiedImageError:  # whose own words speak of where in memory the file is
        raise UserError(f"{name} is no whole picture (it is none of {', '.join(FORMATS)})") from None
    except Exception as error:  # a picture has many ways to be broken, and Pillow's readers no one word for them
        reason = in_one_line(error)
        raise UserError(f"{name} is no whole picture ({reason})") from None


def load(source: Path | bytes, upright: bool, name: str = "", largest: int = LARGEST) -> Image.Image:
    """A picture, decoded, and turned as its EXIF orientation says if it is to be upright; else as `opened`."""
    with opened(source, name, largest) as picture, naming(name or str(source)):
        picture.load()
        if upright:
            ImageOps.exif_transpose(picture, in_place=True)
        return picture


def image(path: Path, upright: bool = False) -> UInt8:
    """(H, W, 3) uint8 RGB of a picture of any mode."""
    return np.asarray(rgb(load(path, upright), str(path)))


def rgb(picture: Image.Image, name: str) -> Image.Image:
    """A decoded picture in RGB, 8 bits a channel.

    Grey becomes three equal channels, 16 bits of it become 8 by round(v / 257) (of 16 bits a colour Pillow gives the
    upper eight), an alpha channel is dropped and leaves the colours as they are stored.
    """
    if picture.mode == "F":
        raise UserError(f"{name} holds floating-point numbers; an image has 8 or 16 bits a channel")
    if picture.mode.startswith("I"):  # 257 is odd: no value lies half-way
        eight_bits = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)
        picture = Image.fromarray(eight_bits[_sixteen_bits(picture, name)])
    with naming(name):
        if picture.mode in ("P", "PA", "La", "RGBa"):  # by way of RGBA, where a palette's alpha can be dropped
            picture = picture.convert("RGBA")
        return picture if picture.mode == "RGB" else picture.convert("RGB")


def mask(path: Path, labels: Labels, upright: bool = False) -> UInt8:
    """(H, W) uint8, classes 0..C-1 or VOID, of a mask's raw codes or colours.

    raises   UserError if the file's kind cannot hold exact codes, or a code is neither class nor void
    """
    picture = load(path, upright)
    refuse_lossy(picture, path)
    return labels.decode(codes(picture, path, labels.colours), str(path))


def codes(picture: Image.Image, path: Path, colours: bool) -> npt.NDArray[np.unsignedinteger]:
    """What a mask holds: (H, W) class codes, or (H, W, 3) uint8 colours where these are declared."""
    if colours:
        return np.asarray(coloured(picture, path))
    if picture.mode.startswith("I"):
        return _sixteen_bits(picture, str(path))
    if picture.mode not in ("L", "P", "1"):
        raise UserError(
            f"{path} is a picture of mode {picture.mode}; a mask holds a code a pixel, "
            "or colours if data.folder.classes lists them: NAME: R,G,B"
        )
    return np.asarray(picture).astype(np.uint8, copy=False)


def strips(picture: Image.Image) -> Iterator[Image.Image]:
    """A decoded picture from top to bottom in parts of some rows: what is made of each needs little memory."""
    for top in range(0, picture.height, STRIP):
        yield picture.crop((0, top, picture.width, min(top + STRIP, picture.height)))


def coloured(picture: Image.Image, path: Path) -> Image.Image:
    """A mask in colours as RGB; a palette gives its colours, grey three equal channels."""
    if picture.mode not in ("RGB", "RGBA", "P", "L", "1"):
        raise UserError(f"{path} is a picture of mode {picture.mode}; a mask in colours is RGB")
    if picture.mode == "P":  # by way of RGBA, where a palette's alpha can be dropped
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def fingerprint(pixels: UInt8) -> str:
    """What two pictures share only if they are the same: size, a sum over all pixels, a digest of every eighth row.

    A digest of all of them would take a sixth of the whole time; this guards against a mistake, not against malice.
    """
    rows = np.ascontiguousarray(pixels[::8])
    return f"{pixels.shape} {zlib.crc32(pixels.data):08x} {hashlib.sha256(rows.data).hexdigest()}"


def refuse_lossy(picture: Image.Image, path: Path) -> None:
    """raises UserError if the file's compression changes colours, so that it can be no mask"""
    lossy = picture.format in ("JPEG", "MPO")
    if picture.format == "WEBP":
        with path.open("rb") as file:
            lossy = file.read(16)[12:] == b"VP8 "
    if lossy:
        raise UserError(f"{path} is a {picture.format} whose compression invents codes; export masks as PNG")


def _sixteen_bits(picture: Image.Image, name: str) -> npt.NDArray[np.uint16]:
    values = np.asarray(picture)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise UserError(f"{name} holds numbers outside 0..65535; pictures have at most 16 bits")
    return values.astype(np.uint16, copy=False)
