"""The size at which a net sees an image: it belongs to the weights, as preprocessing does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from fcn.data.labels import UInt8

Size = tuple[int, int]  # width and height in pixels
Target = Callable[[Size], Size]  # the size that an image of some size is resized to
WRITTEN = "[1-9][0-9]{0,6}x[1-9][0-9]{0,6}"


@dataclass(frozen=True)
class Scale:
    """How images were resized for a net's scores, as params.yaml says it.

    size   data.size.val: native, the shorter side in pixels, or WIDTHxHEIGHT
    tile   data.tile: none, or WIDTHxHEIGHT; larger images were cut into such tiles before these were resized
    """

    size: Annotated[int, Field(ge=1, le=1 << 20)] | Annotated[str, Field(pattern=f"^(native|{WRITTEN})$")] = "native"
    tile: Annotated[str, Field(pattern=f"^(none|{WRITTEN})$")] = "none"

    def target(self, size: Size) -> Size:
        """The size that a whole image is resized to. With tiles it is resized by the factor of one of them."""
        width, height = size if self.tile == "none" else pair(self.tile)
        tile = min(width, size[0]), min(height, size[1])
        seen = target_size(tile, self.size)
        return max(1, round(size[0] * seen[0] / tile[0])), max(1, round(size[1] * seen[1] / tile[1]))

    def __str__(self) -> str:
        if self.size == "native":
            return "not resized"
        wanted = f"a shorter side of {self.size} pixels" if isinstance(self.size, int) else self.size
        return f"resized to {wanted}" if self.tile == "none" else f"resized by the factor of {self.tile} to {wanted}"


def by(factor: float) -> Target:
    """Resizes every image by one factor."""
    return lambda size: (max(1, round(factor * size[0])), max(1, round(factor * size[1])))


def target_size(size: Size, wanted: int | str) -> Size:
    """Width and height in pixels of an image of `size` after resizing as params.yaml says."""
    if wanted == "native":
        return size
    if isinstance(wanted, int):
        scale = wanted / min(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return pair(wanted)


def pair(written: str) -> Size:
    """The two numbers of WIDTHxHEIGHT."""
    width, height = map(int, written.split("x"))
    return width, height


def shrink(pixels: UInt8, width: int, height: int) -> UInt8:
    """An image resized, bilinear and antialiased: torch's, four times as fast as Pillow's.

    Sums of whole numbers, the same bits with any vector instructions; from Pillow's it differs by one
    grey level at most.

    pixels   (H, W, 3) uint8
    returns  (height, width, 3) uint8
    """
    import torch

    own = pixels if pixels.flags.writeable else pixels.copy()  # torch wants to be able to write
    planes = torch.from_numpy(own)[None].permute(0, 3, 1, 2)  # channels last, as torch knows them: twice as fast
    resized = torch.nn.functional.interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())
