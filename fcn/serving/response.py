"""What a served net answers to a request: for each image its mask and how many pixels each class has.

image    in:  a file in base64, at most BYTES; all of a request at most PIXELS
mask     out: a palette PNG in base64, a pixel is its class, the colours are the data set's
classes  out: their names, by number
shares   out: the fraction of the pixels that each has, in the same order
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
from fcn.models import FCN
from fcn.runtime.errors import UserError
from fcn.serving import stopping

BYTES = 32 << 20
PIXELS = 64_000_000
WORK = 500_000_000  # pixels of tiles with their overlaps and borders; 8000x8000 have 290 to 425 million


def answers(
    net: FCN, labels: Labels, texts: Sequence[object], target: Target = lambda size: size
) -> list[dict[str, Any]]:
    """target   the size at which the net sees an image

    raises   UserError if an image cannot be read, or all are too many pixels or tiles, which their headers tell;
             StoppedError as fcn.serving.stopping says
    """
    files = [_decoded(text, f"image {i}") for i, text in enumerate(texts)]
    left, work_left = PIXELS, WORK
    for i, file in enumerate(files):
        size = images.opened(file, f"image {i}", PIXELS).size
        seen = seen_size(size, target, f"image {i}", PIXELS)
        left -= max(math.prod(size), math.prod(seen))
        if left < 0:
            raise UserError(f"image {i} is too large; a request may hold {PIXELS} pixels")
        work_left -= work(net, seen)
        if work_left < 0:
            raise UserError(
                f"image {i} is too long; the tiles of a request, {seen[0]}x{seen[1]} here, may have {WORK} pixels"
            )
    return [_answer(net, labels, file, f"image {i}", target) for i, file in enumerate(files)]


def _decoded(text: object, name: str) -> bytes:
    if not isinstance(text, str):
        raise UserError(f"{name} is no text; send the file in base64")
    if len(text) > (BYTES + 2) // 3 * 4:
        raise UserError(f"{name} is larger than {BYTES >> 20} MiB")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # also text beyond ASCII
        raise UserError(f"{name} is no base64 text ({error})") from None


def _answer(net: FCN, labels: Labels, file: bytes, name: str, target: Target) -> dict[str, Any]:
    stopping.check()
    image = images.rgb(images.load(file, True, name, PIXELS), name)
    mask = predict(net, image, seen=target(image.size), progress=lambda fraction: stopping.check()).mask
    counts = np.bincount(mask.ravel(), minlength=len(labels.names))
    return {
        "mask": base64.b64encode(labels.png(mask)).decode(),
        "classes": list(labels.names),
        "shares": (counts / mask.size).tolist(),
    }
