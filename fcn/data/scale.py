"""The size to which images are resized for a net. Like preprocessing, it is stored with the weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from fcn.data.labels import UInt8

Size = tuple[int, int]  # width and height in pixels
Target = Callable[[Size], Size]  # maps an image's size to the size it is resized to
SIZE = "[1-9][0-9]{0,6}x[1-9][0-9]{0,6}"


@dataclass(frozen=True)
class Scale:
    """How validation images were resized, in the notation of params.yaml.

    size   data.size.val: native, the shorter side in pixels, or WIDTHxHEIGHT
    tile   data.tile: none, or WIDTHxHEIGHT; larger images were cut into tiles of this size, then the tiles were resized
    """

    size: Annotated[int, Field(ge=1, le=1 << 20)] | Annotated[str, Field(pattern=f"^(native|{SIZE})$")] = "native"
    tile: Annotated[str, Field(pattern=f"^(none|{SIZE})$")] = "none"

    def target(self, size: Size) -> Size:
        """The size that a whole image is resized to. With tiles, the image is scaled by the same factor as a tile."""
        width, height = size if self.tile == "none" else pair(self.tile)
        tile = min(width, size[0]), min(height, size[1])
        resized = target_size(tile, self.size)
        return max(1, round(size[0] * resized[0] / tile[0])), max(1, round(size[1] * resized[1] / tile[1]))

    def __str__(self) -> str:
        if self.size == "native":
            return "not resized"
        wanted = f"a shorter side of {self.size} pixels" if isinstance(self.size, int) else self.size
        return f"resized to {wanted}" if self.tile == "none" else f"resized by the factor of {self.tile} to {wanted}"


def by(factor: float) -> Target:
    """Scales every image by `factor`."""
    return lambda size: (max(1, round(factor * size[0])), max(1, round(factor * size[1])))


def target_size(size: Size, wanted: int | str) -> Size:
    """Width and height in pixels after resizing an image of `size`; `wanted` is a value of data.size."""
    if wanted == "native":
        return size
    if isinstance(wanted, int):
        scale = wanted / min(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return pair(wanted)


def pair(written: str) -> Size:
    """Parses WIDTHxHEIGHT."""
    width, height = map(int, written.split("x"))
    return width, height


def shrink(pixels: UInt8, width: int, height: int) -> UInt8:
    """Resizes an image with torch's antialiased bilinear interpolation, four times faster than Pillow.

    torch computes uint8 images in integer arithmetic, so the result does not depend on the CPU's vector
    instructions. It differs from Pillow's by at most one grey level.

    pixels   (H, W, 3) uint8
    returns  (height, width, 3) uint8
    """
    import torch

    writable = pixels if pixels.flags.writeable else pixels.copy()  # torch.from_numpy warns about read-only arrays
    planes = torch.from_numpy(writable)[None].permute(0, 3, 1, 2)  # channels_last memory format: twice as fast
    resized = torch.nn.functional.interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())
