"""What a net makes of one image of any size: classes, how sure it is of them, a picture of both."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcn import machine, weights
from fcn.data import UInt8
from fcn.errors import UserError
from fcn.labels import Labels
from fcn.models import FCN
from fcn.receptive_field import context
from fcn.tiles import Span, on_grid

TILE = 1024  # pixels: 512 of them are kept, the rest is overlap; more is faster, and takes memory
STRIP = 256  # rows of an overlay that are blended together


def load(path: Path) -> tuple[FCN, Labels]:
    """The net of a model file, where it is to compute, and its classes.

    raises   UserError if it is missing, damaged, or says nothing of classes
    """
    net, meta = weights.build(path)
    if meta.labels is None:
        raise UserError(f"{path} does not say what its classes are; take one that `dvc repro` made")
    if not meta.scored:
        print(f"warning: {path} was neither trained nor published: what it predicts means nothing", file=sys.stderr)
    return net.to(machine.device()), meta.labels


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
    tile: int = TILE,
    confidence: bool = False,
    progress: Callable[[float], object] = lambda fraction: None,
) -> Prediction:
    """The class of every pixel, the same whatever the tiles' size, up to rounding.

    image     RGB
    tile      pixels, the side of the largest piece that the net sees at once: more is faster and takes memory
    progress  is told, after each tile, the fraction of the image that it was
    """
    mask = np.empty((image.height, image.width), np.uint8)
    sure = np.empty_like(mask) if confidence else None
    for rows, columns, logits in tiles(net, image, tile):
        kept = np.s_[rows.first : rows.last, columns.first : columns.last]
        best, winner = logits.max(0)
        mask[kept] = winner.to(torch.uint8).cpu().numpy()
        if sure is not None:  # exp(best) / sum of all exp: the softmax of the best, in the logits' own memory
            probability = 1 / logits.sub_(best).exp_().sum(0)
            sure[kept] = (255 * probability).round().to(torch.uint8).cpu().numpy()
        progress((rows.last - rows.first) * (columns.last - columns.first) / mask.size)
    return Prediction(mask, sure)


@torch.no_grad()
def tiles(net: FCN, image: Image.Image, tile: int) -> Iterator[tuple[Span, Span, Tensor]]:
    """Rows, columns and logits of each tile's kept part; together they cover the image once.

    yields   (rows, columns, logits): logits (C, rows.last - rows.first, columns.last - columns.first)
    """
    device = next(net.parameters()).device
    window = context(net)
    for rows in on_grid(image.height, tile, window):
        for columns in on_grid(image.width, tile, window):
            piece = np.asarray(image.crop((columns.start, rows.start, columns.stop, rows.stop)))
            pixels = torch.from_numpy(piece.copy()).to(device).permute(2, 0, 1)[None]
            top, left = rows.first - rows.start, columns.first - columns.start
            height, width = rows.last - rows.first, columns.last - columns.first
            yield rows, columns, net(pixels)[0, :, top : top + height, left : left + width]


def overlay(image: Image.Image, mask: UInt8, labels: Labels) -> None:
    """Lays the classes' colours over the image, half and half, in place: a second large picture takes memory."""
    for top in range(0, image.height, STRIP):
        box = (0, top, image.width, min(top + STRIP, image.height))
        colours = labels.picture(mask[top : box[3]]).convert("RGB")
        image.paste(Image.blend(image.crop(box), colours, 0.5), box)
