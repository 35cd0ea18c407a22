"""The response of a served net: for each image its mask and the fraction of pixels of each class.

image    in:  a file in base64, at most MAX_BYTES; all images of a request together at most MAX_PIXELS
mask     out: a palette PNG in base64, pixel = class, with the data set's colours
classes  out: class names, in order of their numbers
shares   out: fraction of pixels of each class, in the same order
"""

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fcn.data.labels import Labels
from fcn.data.scale import Target
from fcn.inference.prediction import predict, seen_size, work
from fcn.io import images
from fcn.models import Net
from fcn.runtime.errors import UserError
from fcn.serving import stopping

MAX_BYTES = 32 << 20
MAX_PIXELS = 64_000_000
MAX_WORK = 500_000_000  # pixels of all tiles with overlaps and borders; an 8000x8000 image has 290 to 425 million


def segment(
    net: Net, labels: Labels, texts: Sequence[object], target: Target = lambda size: size
) -> list[dict[str, Any]]:
    """Segments the images of a request. Sizes are checked in all headers before the first image is computed.

    texts    the files in base64
    target   maps an image's size to the size at which the net sees it
    raises   UserError if an image cannot be read, or the images have too many pixels or tiles;
             StoppedError if the time is up or the client has disconnected
    """
    files = [_decode(text, f"image {i}") for i, text in enumerate(texts)]
    pixels_left, work_left = MAX_PIXELS, MAX_WORK
    for i, file in enumerate(files):
        size = images.opened(file, f"image {i}", MAX_PIXELS).size
        seen = seen_size(size, target, f"image {i}", MAX_PIXELS)
        pixels_left -= max(math.prod(size), math.prod(seen))
        if pixels_left < 0:
            raise UserError(f"image {i} is too large; a request may have at most {MAX_PIXELS} pixels")
        work_left -= work(net, seen)
        if work_left < 0:
            raise UserError(
                f"image {i} is too long ({seen[0]}x{seen[1]}); the tiles of a request may have at most "
                f"{MAX_WORK} pixels with their borders"
            )
    return [_segment_one(net, labels, file, f"image {i}", target) for i, file in enumerate(files)]


def _decode(text: object, name: str) -> bytes:
    if not isinstance(text, str):
        raise UserError(f"{name} is not a string; send the file in base64")
    if len(text) > (MAX_BYTES + 2) // 3 * 4:
        raise UserError(f"{name} is larger than {MAX_BYTES >> 20} MiB")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # also raised for non-ASCII text
        raise UserError(f"{name} is not valid base64 ({error})") from None


def _segment_one(net: Net, labels: Labels, file: bytes, name: str, target: Target) -> dict[str, Any]:
    stopping.check()
    if net.inputs != {"rgb": 3}:
        raise UserError(f"this net takes {'+'.join(net.inputs)}, which a request cannot hold; use `fcn predict`")
    image = images.rgb(images.load(file, True, name, MAX_PIXELS), name)
    mask = predict(net, image, seen=target(image.size), progress=lambda fraction: stopping.check()).mask
    counts = np.bincount(mask.ravel(), minlength=len(labels.names))
    return {
        "mask": base64.b64encode(labels.png(mask)).decode(),
        "classes": list(labels.names),
        "shares": (counts / mask.size).tolist(),
    }
