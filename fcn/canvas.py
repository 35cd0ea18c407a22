"""The reference's border of 100 pixels without most of its arithmetic: an exact shortcut.

With zeros around an image, every map of the trunk has, from its edge inwards: a few rows that feel the
zero padding of the convolutions before; rows that are all alike; then those that feel the image. What is
all alike need not be computed more than once. So the first blocks see a narrower border, and copies of
one such row and column are put back before the next block, until the map has its full size. A copy's
gradient goes to what it was made from, so gradients are exact too.

Not for batch norm, whose statistics count every copy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BORDER = 100  # pixels of zeros around the image, as in the reference


@dataclass(frozen=True)
class Copies:
    """`count` copies of row `at`, counted from each edge, and of the columns alike."""

    at: int
    count: int

    def __call__(self, x: Tensor) -> Tensor:
        """x        (N, C, H, W)
        returns  (N, C, H + 2·count, W + 2·count)
        """
        for dim in (2, 3):
            end = x.shape[dim] - self.at
            shape = [-1, -1, -1, -1]
            shape[dim] = self.count
            before, after = (x.narrow(dim, row, 1).expand(shape) for row in (self.at, end - 1))
            parts = (x.narrow(dim, 0, self.at), before, x.narrow(dim, self.at, end - self.at), after)
            x = torch.cat([*parts, x.narrow(dim, end, self.at)], dim)
        return x


@dataclass(frozen=True)
class Canvas:
    """A border for conv1_1 in pixels, and what is put back after the first blocks' poolings."""

    border: int
    copies: tuple[Copies, ...] = ()

    def restored(self, x: Tensor, block: int) -> Tensor:
        """What block number `block`, counted from 1, pooled, with what the next one misses put back."""
        return self.copies[block - 1](x) if block <= len(self.copies) else x


def compact(convolutions: tuple[int, ...]) -> Canvas:
    """The least that has to be computed.

    convolutions   3×3 ones in each block; a pooling by 2 follows each block
    """
    border, edge, clear = 0, 0, 0  # clear: rows from the edge on that do not feel the image
    borders, rows = [], []
    for block, count in enumerate(convolutions):
        pixels = 2**block  # of the image to a row of this block
        for wider in range(border, BORDER):
            # conv1_1's padding is what the image is surrounded by anyway: it gives no edge.
            felt = edge + count - (block == 0)
            free = clear + (wider - border) // pixels - count - (block == 0)
            # The pooling's windows begin at one edge, and may meet the other with half a window.
            at, end = felt // 2 + 1, free // 2
            # What is left out has to be a whole number of windows.
            if (BORDER - wider) % (2 * pixels) == 0 and at < end:
                break
        else:
            break
        border, edge, clear = wider, at, end
        borders.append(wider)
        rows.append(at)
    counts = [(b - a) >> block for block, (a, b) in enumerate(zip(borders, [*borders[1:], BORDER], strict=True), 1)]
    return Canvas(borders[0], tuple(map(Copies, rows, counts)))
