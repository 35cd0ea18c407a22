"""Decode, check and resize one sample of a data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fcn.data import depth
from fcn.data.labels import Labels, UInt8
from fcn.data.scale import Wanted, shrink, target_size
from fcn.data.split import LONGEST, Role
from fcn.data.tiles import Tiling, own_part, windows
from fcn.datasets.sources import Sample
from fcn.io import images
from fcn.params import Input
from fcn.runtime.errors import UserError


@dataclass(frozen=True)
class Packed:
    """A checked and resized sample.

    image, masks  as in the packed split: (H, W, channels), and (H, W, 1 or 2) with a mask for each score path
    original      height and width in pixels before resizing
    content       fingerprint of the decoded image before resizing
    """

    name: str
    image: UInt8
    masks: UInt8
    original: tuple[int, int]
    content: str

    @property
    def mask(self) -> UInt8:
        """(H, W): that of the first score path."""
        return self.masks[:, :, 0]


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
        content, (height, width) = images.fingerprint(image), mask.shape[:2]
        for rows, columns in windows(width, height, tiling):
            tile = np.s_[rows.start : rows.stop, columns.start : columns.stop]
            part = mask[tile]
            if role != "train":
                part = own_part(part, rows, columns)
            whole = part.shape[:2] == (height, width)
            name = sample.name if whole else f"{sample.name}_y{rows.start:05d}_x{columns.start:05d}"
            # A copy: a view would keep the whole raster in memory while the next one is decoded.
            try:
                yield _fit(name, image[tile].copy(), part.copy(), content, size, native_masks)
            except UserError as error:
                yield str(error)
        del image, mask, part


def read(sample: Sample, labels: Labels) -> tuple[UInt8, UInt8]:
    """Decode a sample.

    returns  image (H, W, channels) uint8, mask (H, W, 1 or 2) uint8, classes 0..C-1 or VOID
    raises   UserError if a file is invalid, or their sizes differ
    """
    image = channels(sample)
    masks = [(sample.mask, images.mask(sample.mask, labels, sample.upright))]
    if sample.geometric:
        path = sample.beside("geometric")
        masks.append((path, images.mask(path, sample.geometric, sample.upright)))
    _check_sizes([(sample.image, image), *masks])
    return image, np.stack([array for _, array in masks], 2)


def channels(sample: Sample) -> UInt8:
    """All inputs of a sample, (H, W, channels) uint8.

    raises   UserError if a file is invalid, or their sizes differ
    """
    inputs = [_input(sample, name) for name in sample.inputs]
    _check_sizes(inputs)
    return inputs[0][1] if len(inputs) == 1 else np.concatenate([array for _, array in inputs], 2)


def _check_sizes(arrays: Sequence[tuple[Path, UInt8]]) -> None:
    image_path, image = arrays[0]
    for path, array in arrays[1:]:
        if array.shape[:2] != image.shape[:2]:
            sizes = [f"{each.shape[1]}x{each.shape[0]}" for each in (array, image)]
            raise UserError(f"{path} is {sizes[0]}, its image {image_path} is {sizes[1]}")


def _input(sample: Sample, name: Input) -> tuple[Path, UInt8]:
    """The file of an input and its channels."""
    path = sample.image if name in ("rgb", "bands") else sample.beside(name)
    return path, decode(name, path, sample.upright)


def decode(kind: Input, source: Path | bytes, upright: bool = False, name: str = "") -> UInt8:
    """Decode one input to its channels, (H, W, count) uint8.

    source   a file, or the bytes of one
    upright  whether to apply the EXIF orientation
    name     the name used in error messages; default: the file's path
    raises   UserError if it is invalid, as depth that is not a greyscale image of 16 bits
    """
    if kind in ("rgb", "hha"):
        return images.image(source, upright, name)
    if kind == "bands":
        return images.bands(source, name)
    if kind == "depth":
        return depth.encode(images.grey(source, np.uint16, upright, name))[:, :, None]
    return images.grey(source, np.uint8, upright, name)[:, :, None]


def _fit(name: str, image: UInt8, mask: UInt8, content: str, size: Wanted, native_mask: bool) -> Packed:
    """Resize the image with antialiasing and the mask by nearest neighbour, which cannot create new classes."""
    height, width = mask.shape[:2]
    target = target_size((width, height), size)
    if max(target) > LONGEST or target[0] * target[1] > images.MAX_PIXELS:
        problem = f"{name} is {width}x{height} and would be resized to {target[0]}x{target[1]}, which is too large"
        raise UserError(f"{problem}; change data.size, or leave the image out")
    if target != (width, height):
        image = shrink(image, *target)
        if not native_mask:
            planes = (Image.fromarray(mask[:, :, path]) for path in range(mask.shape[2]))
            mask = np.stack([np.asarray(plane.resize(target, Image.Resampling.NEAREST)) for plane in planes], 2)
    return Packed(name, image, mask, (height, width), content)
