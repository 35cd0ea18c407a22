"""Pictures from files: any image as 8-bit RGB, any mask as classes, by rules that docs/data.md lists."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fcn.errors import UserError
from fcn.labels import Coded, Labels

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "PPM", "WEBP")  # others of Pillow's start programs, or nobody uses
BROKEN = Exception  # a picture has many ways to be broken, and Pillow's readers no one word for them
UInt8 = npt.NDArray[np.uint8]


def opened(path: Path) -> Image.Image:
    """A picture of which no more than the head is read.

    raises   UserError if it is missing, no picture, or larger than Pillow's limit of 178 million pixels
    """
    if not path.is_file():  # a pipe or a device would keep us waiting for ever
        raise UserError(f"{path} is {'no regular file' if path.exists() else 'missing'}")
    try:
        with warnings.catch_warnings():  # Pillow warns at half of its limit: rasters may be as large as that
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # From memory: asked for a part of 4 GB, a file would make room for it before it finds that it has none.
            return Image.open(BytesIO(path.read_bytes()), formats=FORMATS)
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise UserError(f"{path} has more than {limit} million pixels; cut it into several files") from None
    except UnidentifiedImageError:  # whose own words speak of where in memory the file is
        raise UserError(f"{path} is no whole picture (it is none of {', '.join(FORMATS)})") from None
    except BROKEN as error:
        raise UserError(f"{path} is no whole picture ({error})") from None


def load(path: Path, upright: bool) -> Image.Image:
    """A picture, decoded, and turned as its EXIF orientation says if it is to be upright."""
    with opened(path) as picture:
        try:
            picture.load()
            if not upright:
                return picture
            turned = ImageOps.exif_transpose(picture)
            turned.format = picture.format
            return turned
        except BROKEN as error:
            raise UserError(f"{path} is no whole picture ({error})") from None


def image(path: Path, upright: bool = False) -> UInt8:
    """(H, W, 3) uint8 RGB of a picture of any mode.

    Grey becomes three equal channels, 16 bits become 8 by round(v / 257), an alpha channel is
    dropped and leaves the colours as they are stored.
    """
    picture = load(path, upright)
    if picture.mode.startswith("I"):
        grey = ((_sixteen_bits(picture, path).astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, 2)
    if picture.mode == "F":
        raise UserError(f"{path} holds floating-point numbers; an image has 8 or 16 bits a channel")
    try:
        if picture.mode in ("P", "PA", "La", "RGBa"):  # by way of RGBA, where a palette's alpha can be dropped
            picture = picture.convert("RGBA")
        return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except BROKEN as error:
        raise UserError(f"{path} is a picture of mode {picture.mode}, which cannot be made RGB ({error})") from None


def mask(path: Path, labels: Labels, upright: bool = False) -> UInt8:
    """(H, W) uint8, classes 0..C-1 or VOID, of a mask's raw codes or colours.

    raises   UserError if the file's kind cannot hold exact codes, or a code is neither class nor void
    """
    picture = load(path, upright)
    if not isinstance(labels, Coded):
        if picture.mode not in ("L", "P"):
            raise UserError(f"{path} is a picture of mode {picture.mode}; a mask holds one class number a pixel")
        return labels.decode(np.asarray(picture), str(path))
    if lossy(picture, path):
        raise UserError(f"{path} is a {picture.format} whose compression invents codes; export masks as PNG")
    return labels.decode(codes(picture, path, labels.colours), str(path))


def codes(picture: Image.Image, path: Path, colours: bool) -> npt.NDArray[np.unsignedinteger]:
    """What a mask holds: (H, W) class codes, or (H, W, 3) uint8 colours where these are declared."""
    if colours:
        if picture.mode not in ("RGB", "RGBA", "P", "L"):
            raise UserError(f"{path} is a picture of mode {picture.mode}; a mask in colours is RGB")
        return np.asarray(picture.convert("RGBA" if picture.mode == "P" else "RGB"))[..., :3]
    if picture.mode.startswith("I"):
        return _sixteen_bits(picture, path)
    if picture.mode not in ("L", "P", "1"):
        raise UserError(
            f"{path} is a picture of mode {picture.mode}; colours need a table, data.folder.classes with NAME: R,G,B"
        )
    return np.asarray(picture).astype(np.uint8, copy=False)


def lossy(picture: Image.Image, path: Path) -> bool:
    """Whether the file's compression changes colours, so that it can be no mask."""
    if picture.format == "WEBP":
        with path.open("rb") as file:
            return file.read(16)[12:] == b"VP8 "
    return picture.format in ("JPEG", "MPO", "JPEG2000")


def _sixteen_bits(picture: Image.Image, path: Path) -> npt.NDArray[np.uint16]:
    values = np.asarray(picture)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise UserError(f"{path} holds numbers outside 0..65535; pictures have at most 16 bits")
    return values.astype(np.uint16, copy=False)
