"""Decode, check and resize one sample of a data set."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fcn.data.labels import Labels, UInt8
from fcn.data.scale import Wanted, shrink, target_size
from fcn.data.split import LONGEST, Role
from fcn.data.tiles import Tiling, own_part, windows
from fcn.datasets.sources import Sample
from fcn.io import images
from fcn.runtime.errors import UserError


@dataclass(frozen=True)
class Packed:
    """A checked and resized sample.

    image, mask   as in the packed split
    original      height and width in pixels before resizing
    content       fingerprint of the decoded image before resizing
    """

    name: str
    image: UInt8
    mask: UInt8
    original: tuple[int, int]
    content: str


def resize(sample: Sample, labels: Labels, size: Wanted, native_mask: bool) -> Packed | str:
    """Resize one sample; returns an error message if it is invalid."""
    try:
        image, mask = read(sample, labels)
        return _fit(sample.name, image, mask, images.fingerprint(image), size, native_mask)
    except UserError as error:
        return str(error)


def resize_in_tiles(
    samples: list[Sample], labels: Labels, size: Wanted, native_masks: bool, role: Role, tiling: Tiling
) -> Iterator[Packed | str]:
    """The tiles of each sample. Samples are decoded one at a time, so that memory holds one raster.

    A tile is named NAME_yTOP_xLEFT, in pixels; an image that fits into one tile keeps its name.
    """
    for sample in samples:
        try:
            image, mask = read(sample, labels)
        except UserError as error:
            yield str(error)
            continue
        content, (height, width) = images.fingerprint(image), mask.shape
        for rows, columns in windows(width, height, tiling):
            tile = np.s_[rows.start : rows.stop, columns.start : columns.stop]
            part = mask[tile]
            if role == "val":
                part = own_part(part, rows, columns)
            whole = part.shape == (height, width)
            name = sample.name if whole else f"{sample.name}_y{rows.start:05d}_x{columns.start:05d}"
            # A copy: a view would keep the whole raster in memory while the next one is decoded.
            try:
                yield _fit(name, image[tile].copy(), part.copy(), content, size, native_masks)
            except UserError as error:
                yield str(error)
        del image, mask, part


def read(sample: Sample, labels: Labels) -> tuple[UInt8, UInt8]:
    """Decode a sample.

    returns  image (H, W, 3) uint8 RGB, mask (H, W) uint8, classes 0..C-1 or VOID
    raises   UserError if one of them is invalid, or their sizes differ
    """
    image = images.image(sample.image, sample.upright)
    mask = images.mask(sample.mask, labels, sample.upright)
    if mask.shape != image.shape[:2]:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (mask, image)]
        raise UserError(f"{sample.mask} is {sizes[0]}, its image {sample.image} is {sizes[1]}")
    return image, mask


def _fit(name: str, image: UInt8, mask: UInt8, content: str, size: Wanted, native_mask: bool) -> Packed:
    """Resize the image with antialiasing and the mask by nearest neighbour, which cannot create new classes."""
    height, width = mask.shape
    target = target_size((width, height), size)
    if max(target) > LONGEST or target[0] * target[1] > images.MAX_PIXELS:
        problem = f"{name} is {width}x{height} and would be resized to {target[0]}x{target[1]}, which is too large"
        raise UserError(f"{problem}; change data.size, or leave the image out")
    if target != (width, height):
        image = shrink(image, *target)
        if not native_mask:
            mask = np.asarray(Image.fromarray(mask).resize(target, Image.Resampling.NEAREST))
    return Packed(name, image, mask, (height, width), content)
