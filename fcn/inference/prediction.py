"""What a net makes of one image of any size: classes, how sure it is of them, a picture of both."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcn.data.labels import Labels, UInt8
from fcn.data.scale import Scale, Size, Target, shrink
from fcn.data.tiles import on_grid
from fcn.inference.receptive_field import context
from fcn.models import FCN, layers, weights
from fcn.models.border import BORDER
from fcn.runtime import machine
from fcn.runtime.errors import UserError

TILE = 1024  # pixels: 512 of them are kept, the rest is overlap; more is faster, and takes memory
STRIP = 256  # rows of an overlay that are blended together


def load(path: Path) -> tuple[FCN, Labels, Scale]:
    """The net of a model file, where it is to compute, its classes, and how images were resized for its scores.

    raises   UserError if it is missing, damaged, or says nothing of classes
    """
    net, meta = weights.build(path)
    if meta.labels is None:
        raise UserError(f"{path} does not say what its classes are; take one that `dvc repro` made")
    if not meta.scored:
        print(f"warning: {path} was neither trained nor published: what it predicts means nothing", file=sys.stderr)
    return net.to(machine.device()), meta.labels, meta.scale or Scale()


def seen_size(image: Size, target: Target, name: str, largest: int) -> Size:
    """Width and height at which the net sees an image of this size.

    raises   UserError if that is more than `largest` pixels, as for an image that is a thousand times as wide as high
    """
    width, height = target(image)
    if width * height > largest:
        raise UserError(f"{name} would be resized to {width}x{height}; {largest // 10**6} million pixels are allowed")
    return width, height


@dataclass(frozen=True)
class Prediction:
    """mask        (H, W) uint8, classes 0..C-1
    confidence  (H, W) uint8, the softmax probability of that class times 255, rounded; if asked for
    """

    mask: UInt8
    confidence: UInt8 | None


def predict(
    net: FCN,
    image: Image.Image,
    *,
    seen: Size | None = None,
    size: Size | None = None,
    tile: int = TILE,
    confidence: bool = False,
    progress: Callable[[float], object] = lambda fraction: None,
) -> Prediction:
    """The class of every pixel, the same whatever the tiles' size, up to rounding.

    Logits are upsampled to the result, not the mask.

    image     RGB
    seen      width and height that the image is resized to for the net, as `fcn.datasets.packing` does it;
              its own by default
    size      of the result; the image's own by default
    tile      pixels, the side of the largest piece that the net sees at once: more is faster and takes memory
    progress  is told, after each tile, the fraction of the image that it was
    """
    width, height = size or image.size
    mask = np.empty((height, width), np.uint8)
    sure = np.empty_like(mask) if confidence else None
    if seen not in (None, image.size):
        image = Image.fromarray(shrink(np.array(image), *seen))
    for rows, columns, logits in tiles(net, image, tile, (width, height)):
        kept = np.s_[rows, columns]
        best, winner = logits.max(0)
        mask[kept] = winner.to(torch.uint8).cpu().numpy()
        if sure is not None:  # exp(best) / sum of all exp: the softmax of the best, in the logits' own memory
            probability = 1 / logits.sub_(best).exp_().sum(0)
            sure[kept] = (255 * probability).round().to(torch.uint8).cpu().numpy()
        progress(winner.numel() / mask.size)
    return Prediction(mask, sure)


def work(net: FCN, size: Size, tile: int = TILE) -> int:
    """Pixels of all tiles of an image, overlaps and the reference's border included: what predicting it costs.

    The border stands for what a small tile costs without it, too.
    """
    window = context(net)
    across, down = (sum(span.stop - span.start + 2 * BORDER for span in on_grid(n, tile, window)) for n in size)
    return across * down


@torch.no_grad()
def tiles(net: FCN, image: Image.Image, tile: int, size: Size) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and logits of pieces of the result, in its size; together they cover it once.

    yields   (rows, columns, logits): logits (C, H, W), as many as there are rows and columns
    """
    device = next(net.parameters()).device
    down, across = (layers.axis(*sides) for sides in zip(reversed(image.size), reversed(size), strict=True))
    before, after = context(net)
    # What lies between two pixels of the image needs both: the tiles keep one more row and column.
    more = int(size != image.size)
    for rows in on_grid(image.height, tile, (before, after + more)):
        for columns in on_grid(image.width, tile, (before, after + more)):
            piece = np.asarray(image.crop((columns.start, rows.start, columns.stop, rows.stop)))
            pixels = torch.from_numpy(piece.copy()).to(device).permute(2, 0, 1)[None]
            top, left = rows.first - rows.start, columns.first - columns.start
            bottom, right = (min(span.last + more, span.stop) - span.start for span in (rows, columns))
            logits = net(pixels)[0, :, top:bottom, left:right]
            if not more:
                yield slice(rows.first, rows.last), slice(columns.first, columns.last), logits
                continue
            (wide, own), (own_rows, rows_axis) = (
                across.part(columns.first, columns.last),
                down.part(rows.first, rows.last),
            )
            for first, strip in layers.resized(logits, rows_axis, own):
                yield slice(own_rows.start + first, own_rows.start + first + strip.shape[1]), wide, strip


def overlay(image: Image.Image, mask: UInt8, labels: Labels) -> None:
    """Lays the classes' colours over the image, half and half, in place: a second large picture takes memory."""
    for top in range(0, image.height, STRIP):
        box = (0, top, image.width, min(top + STRIP, image.height))
        colours = labels.picture(mask[top : box[3]]).convert("RGB")
        image.paste(Image.blend(image.crop(box), colours, 0.5), box)
