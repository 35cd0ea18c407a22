"""The size to which images are resized for a net. Like preprocessing, it is stored with the weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fcn.data.labels import UInt8
from fcn.params import Crop, SideOrSize, Size

Wanted = int | Literal["native"] | Size  # a value of data.size: the shorter side, native, or width and height
Target = Callable[[tuple[int, int]], tuple[int, int]]  # maps an image's width and height to those it is resized to


@dataclass(frozen=True)
class Scale:
    """How validation images were resized.

    size   data.size.val
    tile   data.tile; larger images were cut into tiles of this size, then the tiles were resized
    """

    size: SideOrSize = "native"
    tile: Crop = None

    def target(self, size: tuple[int, int]) -> Size:
        """The size that a whole image is resized to. With tiles, the image is scaled by the same factor as a tile."""
        width, height = self.tile or size
        tile = min(width, size[0]), min(height, size[1])
        resized = target_size(tile, self.size)
        return _rounded(size[0] * resized[0] / tile[0], size[1] * resized[1] / tile[1])

    def __str__(self) -> str:
        if self.size == "native":
            return "not resized"
        wanted = f"a shorter side of {self.size} pixels" if isinstance(self.size, int) else self.size
        return f"resized by the factor of {self.tile} to {wanted}" if self.tile else f"resized to {wanted}"


def by(factor: float) -> Target:
    """Scales every image by `factor`."""
    return lambda size: _rounded(factor * size[0], factor * size[1])


def target_size(size: tuple[int, int], wanted: Wanted) -> Size:
    """Width and height in pixels after resizing an image of `size`."""
    if wanted == "native":
        return Size(*size)
    if isinstance(wanted, int):
        scale = wanted / min(size)
        return _rounded(size[0] * scale, size[1] * scale)
    return wanted


def _rounded(width: float, height: float) -> Size:
    return Size(max(1, round(width)), max(1, round(height)))


def shrink(pixels: UInt8, width: int, height: int) -> UInt8:
    """Resizes an image with torch's antialiased bilinear interpolation, four times faster than Pillow.

    torch computes uint8 images in integer arithmetic, so the result does not depend on the CPU's vector
    instructions. It differs from Pillow's by at most one grey level.

    pixels   (H, W, channels) uint8
    returns  (height, width, channels) uint8
    """
    import torch

    writable = pixels if pixels.flags.writeable else pixels.copy()  # torch.from_numpy warns about read-only arrays
    planes = torch.from_numpy(writable)[None].permute(0, 3, 1, 2)  # channels_last memory format: twice as fast
    resized = torch.nn.functional.interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())
