"""Decode untrusted image files: images to 8-bit RGB, masks to classes, by the rules listed in docs/data.md."""

import hashlib
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fcn.data.labels import STRIP, Labels, UInt8
from fcn.data.split import MAX_CHANNELS
from fcn.runtime.errors import UserError, in_one_line
from fcn.runtime.files import read_regular

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # Pillow's others run external programs or are unused
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm")
MAX_PIXELS = 178_956_970  # Pillow's default limit; each core may decode one such image
MAX_FILE_SIZE = 700 << 20  # bytes: MAX_PIXELS in RGBA, uncompressed
MAX_PAGES = 1024  # of a TIFF with bands; tifffile reads the tags of all of them
DEFLATE, UNLIMITED = (8, 32946), (32773, 34925, 50000)  # compressions of TIFF; the latter PackBits, LZMA, ZSTD
# 16-bit values as 8-bit ones: round(v / 257); 257 is odd, so there are no ties.
EIGHT_BITS = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)


def opened(source: Path | bytes, name: str = "", largest: int = MAX_PIXELS) -> Image.Image:
    """Open an image and read its header only.

    source   a file, or the bytes of one
    name     the name used in error messages; default: the file's path
    largest  the maximal number of pixels
    raises   UserError if the file is missing, not an image, or too large
    """
    name = name or str(source)
    # Read into memory first: if a header announces a chunk of 4 GB, Pillow would allocate that much before it finds
    # that the file is shorter.
    content = source if isinstance(source, bytes) else read_regular(source, MAX_FILE_SIZE)
    # Pillow's global limit would be checked again at every decode and crop; `largest` is a limit per call.
    Image.MAX_IMAGE_PIXELS = None
    with decoding(name):
        picture = Image.open(BytesIO(content), formats=FORMATS)
    if picture.width * picture.height > largest:
        raise UserError(f"{name} has more than {largest // 10**6} million pixels; cut it into several files")
    return picture


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Convert Pillow's errors to a UserError of one line that names the image."""
    try:
        yield
    except UnidentifiedImageError:  # its message holds a memory address
        raise UserError(f"{name} cannot be decoded (it is none of {', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow's decoders raise exceptions of many types for broken files
        reason = in_one_line(error)
        raise UserError(f"{name} cannot be decoded ({reason})") from None


def load(source: Path | bytes, upright: bool, name: str = "", largest: int = MAX_PIXELS) -> Image.Image:
    """Decode an image; with `upright`, apply its EXIF orientation. The other parameters are those of `opened`."""
    with opened(source, name, largest) as picture, decoding(name or str(source)):
        picture.load()
        if upright:
            ImageOps.exif_transpose(picture, in_place=True)
        return picture


def image(source: Path | bytes, upright: bool = False, name: str = "") -> UInt8:
    """Decode an image of any mode to (H, W, 3) uint8 RGB."""
    return np.asarray(rgb(load(source, upright, name), name or str(source)))


def grey(
    source: Path | bytes, kind: type[np.uint8] | type[np.uint16], upright: bool = False, name: str = ""
) -> npt.NDArray[np.unsignedinteger]:
    """Decode a greyscale image of 8 or 16 bits to (H, W) of that kind, without scaling.

    raises   UserError if it has another mode
    """
    name = name or str(source)
    picture = load(source, upright, name)
    if kind is np.uint16 and picture.mode.startswith("I"):
        return _sixteen_bits(picture, name)
    if kind is np.uint8 and picture.mode == "L":
        return np.asarray(picture)
    bits = np.iinfo(kind).bits
    raise UserError(f"{name} has mode {picture.mode}; this input is a greyscale image of {bits} bits")


def band_sizes(source: Path | bytes, name: str = "") -> tuple[int, int, int]:
    """Width, height and number of bands of a TIFF; reads the header only.

    raises   UserError if it is no TIFF of one image, or has other values than 8 and 16 bits, or too many
    """
    return _bands(source, name or str(source))[0]


def bands(source: Path | bytes, name: str = "") -> UInt8:
    """Decode the first image of a TIFF with any number of bands to (H, W, bands) uint8; 16 bits become 8 as in `rgb`.

    raises   UserError as `band_sizes`, and if it is broken or compressed in a way that tifffile does not read
    """
    name = name or str(source)
    (width, height, count), first, file = _bands(source, name)
    with decoding(name):
        pages = file.series[0].pages
        if sum(sum(page.databytecounts) for page in pages) > file.filehandle.size:
            raise ValueError("its strips or tiles overlap")
        if any(_inflates(page, file.filehandle) for page in pages):
            raise ValueError("its data are longer than its size says, or compressed with PackBits, LZMA or ZSTD")
        pixels = file.asarray(series=0)
    pixels = np.moveaxis(pixels, first - 1, -1) if first else pixels
    pixels = np.ascontiguousarray(pixels.reshape(height, width, count))
    return pixels if pixels.dtype == np.uint8 else EIGHT_BITS[pixels]


def _bands(source: Path | bytes, name: str) -> tuple[tuple[int, int, int], int, Any]:
    """Width, height and number of bands; the index of the axis of rows; the opened file."""
    import tifffile

    content = source if isinstance(source, bytes) else read_regular(source, MAX_FILE_SIZE)
    with decoding(name):
        file = tifffile.TiffFile(BytesIO(content))
        with suppress(IndexError):
            file.pages[MAX_PAGES]  # reads no more pages than these; len would read all
            raise ValueError(f"it has more than {MAX_PAGES} pages")
        axes, shape, kind = file.series[0].axes, file.series[0].shape, file.series[0].dtype
    if len(axes) not in (2, 3) or axes.count("Y") != 1 or axes.count("X") != 1:
        raise UserError(f"{name} has the axes {axes}; bands are one axis beside rows and columns")
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    count = math.prod(shape) // max(1, height * width)
    if kind not in (np.uint8, np.uint16) or not 0 < count <= MAX_CHANNELS or height * width * count > 4 * MAX_PIXELS:
        raise UserError(f"{name} is {width}x{height} with {count} bands of {kind}; see docs/data.md for what is read")
    return (width, height, count), axes.index("Y"), file


def _inflates(page: Any, file: Any) -> bool:
    """Whether a strip or tile of a TIFF's page decodes to more than twice its size, which tifffile does not limit."""
    kind, limit = page.keyframe.compression, 2 * math.prod(page.keyframe.chunks) * page.keyframe.dtype.itemsize
    if kind in UNLIMITED:
        return True
    if kind not in DEFLATE:  # the codecs of imagecodecs are given the size
        return False
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        if len(zlib.decompressobj().decompress(file.read(count), limit + 1)) > limit:
            return True
    return False


def rgb(picture: Image.Image, name: str) -> Image.Image:
    """Convert a decoded image to RGB, 8 bits per channel.

    Greyscale becomes three equal channels; 16-bit greyscale is converted by round(v / 257). Of 16-bit colours, Pillow
    keeps the upper eight bits. An alpha channel is dropped without blending.
    """
    if picture.mode == "F":
        raise UserError(f"{name} holds floating-point numbers; an image has 8 or 16 bits a channel")
    if picture.mode.startswith("I"):
        picture = Image.fromarray(EIGHT_BITS[_sixteen_bits(picture, name)])
    with decoding(name):
        if picture.mode in ("P", "PA", "La", "RGBa"):  # RGBA first, so that a palette's alpha can be dropped
            picture = picture.convert("RGBA")
        return picture if picture.mode == "RGB" else picture.convert("RGB")


def mask(path: Path, labels: Labels, upright: bool = False) -> UInt8:
    """Decode a mask's raw codes or colours to (H, W) uint8, classes 0..C-1 or VOID.

    raises   UserError if the file format is lossy, or a code is neither a class nor void
    """
    picture = load(path, upright)
    refuse_lossy(picture, path)
    return labels.decode(codes(picture, path, labels.colours), str(path))


def codes(picture: Image.Image, path: Path, colours: bool) -> npt.NDArray[np.unsignedinteger]:
    """The raw content of a mask: (H, W) codes, or (H, W, 3) uint8 colours if classes are declared by colour."""
    if colours:
        return np.asarray(coloured(picture, path))
    if picture.mode.startswith("I"):
        return _sixteen_bits(picture, str(path))
    if picture.mode not in ("L", "P", "1"):
        raise UserError(
            f"{path} has mode {picture.mode}; a mask holds one code per pixel, "
            "or colours if data.folder.classes lists them: NAME: R,G,B"
        )
    return np.asarray(picture).astype(np.uint8, copy=False)


def strips(picture: Image.Image) -> Iterator[Image.Image]:
    """A decoded image in strips of STRIP rows, top to bottom, so that processing each needs little memory."""
    for top in range(0, picture.height, STRIP):
        yield picture.crop((0, top, picture.width, min(top + STRIP, picture.height)))


def coloured(picture: Image.Image, path: Path) -> Image.Image:
    """A colour mask as RGB; palettes are expanded, greyscale becomes three equal channels."""
    if picture.mode not in ("RGB", "RGBA", "P", "L", "1"):
        raise UserError(f"{path} has mode {picture.mode}; a colour mask must be RGB")
    if picture.mode == "P":  # RGBA first, so that a palette's alpha can be dropped
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def fingerprint(pixels: UInt8) -> str:
    """A fingerprint of the pixels: shape, a CRC-32 of all pixels and the sha256 of every eighth row.

    A sha256 of all pixels would take a sixth of the stage's time. This guards against mistakes, not against attacks.
    """
    rows = np.ascontiguousarray(pixels[::8])
    return f"{pixels.shape} {zlib.crc32(pixels.data):08x} {hashlib.sha256(rows.data).hexdigest()}"


def refuse_lossy(picture: Image.Image, path: Path) -> None:
    """raises UserError if the file's compression is lossy, which changes codes"""
    lossy = picture.format in ("JPEG", "MPO")
    if picture.format == "WEBP":
        with path.open("rb") as file:
            lossy = file.read(16)[12:] == b"VP8 "
    if lossy:
        raise UserError(
            f"{path} is a {picture.format} with lossy compression, which changes codes; export masks as PNG"
        )


def _sixteen_bits(picture: Image.Image, name: str) -> npt.NDArray[np.uint16]:
    values = np.asarray(picture)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise UserError(f"{name} holds values outside 0..65535; export it with at most 16 bits per channel")
    return values.astype(np.uint16, copy=False)
