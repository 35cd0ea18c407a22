"""Predict one image of any size, in tiles: classes, confidence, overlay."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcn.data.labels import Labels, UInt8
from fcn.data.scale import Scale, Target, shrink
from fcn.data.tiles import Span
from fcn.inference.receptive_field import context, on_grid
from fcn.kernels import resizing
from fcn.kernels.border import BORDER
from fcn.models import Net
from fcn.runtime import machine
from fcn.runtime.errors import UserError
from fcn.weights import model_file

TILE = 1024  # pixels: 512 are kept, the rest is overlap; larger tiles are faster and take more memory
STRIP = 256  # rows of an overlay that are blended at once


def load(path: Path) -> tuple[Net, list[Labels], Scale]:
    """Load a model file: the net on the compute device, its classes, and how images are resized for evaluation.

    returns  the classes of each score path, in the order of the net's heads
    raises   UserError if the file is missing, damaged, or has no classes
    """
    net, meta = model_file.build(path)
    labels = [classes for classes in (meta.labels, meta.geometric) if classes][: len(net.heads)]
    if len(labels) < len(net.heads):
        raise UserError(f"{path} holds no class names; use a model file made by `dvc repro`")
    if not meta.scored:
        print(f"warning: {path} was neither trained nor published: its predictions are meaningless", file=sys.stderr)
    return net.to(machine.device()), labels, meta.scale or Scale()


def seen_size(image: tuple[int, int], target: Target, name: str, largest: int) -> tuple[int, int]:
    """Width and height of the net's input for an image of this size.

    raises   UserError if that is more than `largest` pixels, as for an image with an extreme aspect ratio
    """
    width, height = target(image)
    if width * height > largest:
        raise UserError(f"{name} would be resized to {width}x{height}; {largest // 10**6} million pixels are allowed")
    return width, height


@dataclass(frozen=True)
class Prediction:
    """A mask predicted by one score path.

    mask        (H, W) uint8, classes 0..C-1
    confidence  (H, W) uint8, the softmax probability of that class times 255, rounded; None if not requested
    """

    mask: UInt8
    confidence: UInt8 | None


def predict(
    net: Net,
    image: Image.Image | UInt8,
    *,
    seen: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
    tile: int = TILE,
    confidence: bool = False,
    progress: Callable[[float], object] = lambda fraction: None,
) -> list[Prediction]:
    """Predict the class of every pixel, by each score path.

    The result does not depend on the tile size, up to rounding. Logits, not the mask, are upsampled to its size.

    image     RGB, or (H, W, channels of the net's inputs) uint8
    seen      width and height of the net's input, resized as in `fcn.datasets.packing`; default: those of the image
    size      width and height of the result; default: those of the image
    tile      largest side of a tile in pixels; larger tiles are faster and take more memory
    progress  called after each tile with the fraction of the image that it covers
    """
    own = _size(image)
    width, height = size or own
    shape = height, width
    results = [
        Prediction(np.empty(shape, np.uint8), np.empty(shape, np.uint8) if confidence else None) for _ in net.heads
    ]
    if seen not in (None, own):
        image = shrink(np.array(image), *seen)
    for rows, columns, logits in tiles(net, image, tile, (width, height)):
        kept = np.s_[rows, columns]
        for result, scores in zip(results, torch.split(logits, list(net.heads.values())), strict=True):
            best, winner = scores.max(0)
            result.mask[kept] = winner.to(torch.uint8).cpu().numpy()
            if result.confidence is not None:  # softmax of the best class, exp(best) / sum(exp), computed in place
                probability = 1 / scores.sub_(best).exp_().sum(0)
                result.confidence[kept] = (255 * probability).round().to(torch.uint8).cpu().numpy()
        progress(logits[0].numel() / (width * height))
    return results


def work(net: Net, size: tuple[int, int], tile: int = TILE) -> int:
    """The cost of predicting an image: pixels of all its tiles, including overlaps and the reference's border.

    A late fusion has this cost for each of its nets. The border is counted for nets without it too, as the fixed cost
    of a small tile.
    """
    window = context(net)
    across, down = (sum(span.stop - span.start + 2 * BORDER for span in on_grid(n, tile, window)) for n in size)
    return across * down * len(net.trunks())


def _size(image: Image.Image | UInt8) -> tuple[int, int]:
    """Width and height."""
    return image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])


def _cut(image: Image.Image | UInt8, rows: Span, columns: Span) -> UInt8:
    if isinstance(image, Image.Image):  # without a copy of the whole image
        return np.array(image.crop((columns.start, rows.start, columns.stop, rows.stop)))
    return image[rows.start : rows.stop, columns.start : columns.stop].copy()


@torch.no_grad()
def tiles(
    net: Net, image: Image.Image | UInt8, tile: int, size: tuple[int, int]
) -> Iterator[tuple[slice, slice, Tensor]]:
    """The result in parts that cover it exactly once.

    yields   (rows, columns, logits): slices of the result, logits (C, rows, columns), of all score paths together
    """
    device = next(net.parameters()).device
    width, height = _size(image)
    down, across = resizing.axis(height, size[1]), resizing.axis(width, size[0])
    before, after = context(net)
    # Interpolation needs the pixels on both sides, so tiles keep one more row and column.
    more = int(size != (width, height))
    for rows in on_grid(height, tile, (before, after + more)):
        for columns in on_grid(width, tile, (before, after + more)):
            pixels = torch.from_numpy(_cut(image, rows, columns)).to(device).permute(2, 0, 1)[None]
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
            for first, strip in resizing.resized(logits, rows_axis, own):
                yield slice(own_rows.start + first, own_rows.start + first + strip.shape[1]), wide, strip


def overlay(image: Image.Image, mask: UInt8, labels: Labels) -> None:
    """Blend the class colours over the image, half and half, in place to save memory."""
    for top in range(0, image.height, STRIP):
        box = (0, top, image.width, min(top + STRIP, image.height))
        colours = labels.picture(mask[top : box[3]]).convert("RGB")
        image.paste(Image.blend(image.crop(box), colours, 0.5), box)
