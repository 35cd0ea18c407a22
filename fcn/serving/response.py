"""The response of a served net: for each image its mask and the fraction of pixels of each class.

A record of a request has a file in base64 for each input of the net, all of the same size in pixels: `image` for RGB,
and `depth`, `hha`, `infrared` or `bands` for the input of that name, in the formats that docs/data.md lists.

mask     out: a palette PNG in base64, pixel = class, with the data set's colours
classes  out: class names, in order of their numbers
shares   out: fraction of pixels of each class, in the same order

A net with a second score path adds the same three with the prefix `geometric_`.

A file has at most MAX_BYTES; all files of a request together at most MAX_PIXELS, where three bands count as one image.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from fcn.data.labels import Labels, UInt8
from fcn.data.scale import Target
from fcn.datasets import resizing
from fcn.inference.prediction import predict, seen_size, work
from fcn.io import images
from fcn.ladder import GEOMETRIC
from fcn.models import Net
from fcn.runtime.errors import UserError
from fcn.serving import stopping

MAX_BYTES = 32 << 20
MAX_PIXELS = 64_000_000
MAX_WORK = 500_000_000  # pixels of all tiles with overlaps and borders; an 8000x8000 image has 290 to 425 million


COLUMNS = {"rgb": "image"}  # the other inputs have their own names


def columns(inputs: Iterable[str]) -> dict[str, str]:
    """The name in a record of each input."""
    return {name: COLUMNS.get(name, name) for name in inputs}


def segment(
    net: Net, labels: Sequence[Labels], records: Sequence[Mapping[str, object]], target: Target = lambda size: size
) -> list[dict[str, Any]]:
    """Segments the images of a request. Sizes are checked in all headers before the first image is computed.

    labels   of each score path
    records  the files in base64
    target   maps an image's size to the size at which the net sees it
    raises   UserError if a file is missing or cannot be read, the files of an image differ in size, or the images have
             too many pixels or tiles; StoppedError if the time is up or the client has disconnected
    """
    names = columns(net.inputs)
    decoded = [
        {kind: _decode(record.get(column), f"{column} {i}") for kind, column in names.items()}
        for i, record in enumerate(records)
    ]
    pixels_left, work_left = MAX_PIXELS, MAX_WORK
    for i, files in enumerate(decoded):
        for kind, file in files.items():
            name = f"{names[kind]} {i}"
            size, count = _header(kind, file, name)
            seen = seen_size(size, target, name, MAX_PIXELS)
            pixels_left -= max(math.prod(size), math.prod(seen)) * count
            if pixels_left < 0:
                raise UserError(f"{name} is too large; a request may have at most {MAX_PIXELS} pixels")
        work_left -= work(net, seen)
        if work_left < 0:
            raise UserError(
                f"image {i} is too long ({seen[0]}x{seen[1]}); the tiles of a request may have at most "
                f"{MAX_WORK} pixels with their borders"
            )
    return [_segment_one(net, labels, files, i, target) for i, files in enumerate(decoded)]


def _decode(text: object, name: str) -> bytes:
    if not isinstance(text, str):
        raise UserError(f"{name} is not a string; send the file in base64")
    if len(text) > (MAX_BYTES + 2) // 3 * 4:
        raise UserError(f"{name} is larger than {MAX_BYTES >> 20} MiB")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # also raised for non-ASCII text
        raise UserError(f"{name} is not valid base64 ({error})") from None


def _header(kind: str, file: bytes, name: str) -> tuple[tuple[int, int], int]:
    """Width and height of a file, and as how many images of three channels it counts."""
    if kind != "bands":
        return images.opened(file, name, MAX_PIXELS).size, 1
    width, height, bands = images.band_sizes(file, name)
    return (width, height), -(-bands // 3)


def _segment_one(
    net: Net, labels: Sequence[Labels], files: Mapping[str, bytes], number: int, target: Target
) -> dict[str, Any]:
    stopping.check()
    image = _image(net, files, number)
    width, height = image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])
    results = predict(net, image, seen=target((width, height)), progress=lambda fraction: stopping.check())
    answer: dict[str, Any] = {}
    for prefix, classes, result in zip(("", GEOMETRIC), labels, results, strict=False):
        counts = np.bincount(result.mask.ravel(), minlength=len(classes.names))
        answer[f"{prefix}mask"] = base64.b64encode(classes.png(result.mask)).decode()
        answer[f"{prefix}classes"] = list(classes.names)
        answer[f"{prefix}shares"] = (counts / result.mask.size).tolist()
    return answer


def _image(net: Net, files: Mapping[str, bytes], number: int) -> Image.Image | UInt8:
    """RGB, or the channels of all inputs, (H, W, channels)."""
    names = columns(files)
    if net.inputs == {"rgb": 3}:
        return images.rgb(images.load(files["rgb"], True, f"image {number}", MAX_PIXELS), f"image {number}")
    parts: list[UInt8] = []
    for kind, channels in net.inputs.items():
        name = f"{names[kind]} {number}"
        pixels = resizing.decode(kind, files[kind], True, name)  # type: ignore[arg-type]
        if pixels.shape[2] != channels:
            raise UserError(f"{name} has {pixels.shape[2]} channels; the net takes {channels}")
        parts.append(pixels)
        if pixels.shape[:2] != parts[0].shape[:2]:
            sizes = [f"{each.shape[1]}x{each.shape[0]}" for each in (pixels, parts[0])]
            first = f"{next(iter(names.values()))} {number}"
            raise UserError(f"{name} is {sizes[0]}, {first} is {sizes[1]}; all files of a record have the same size")
    return np.concatenate(parts, 2) if len(parts) > 1 else parts[0]
