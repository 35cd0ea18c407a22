"""Random changes of a training image: translation, scale, colours, and cells that are ignored in the loss.

The functions work on one array, an image or a mask; the caller gives both the same movement.
"""

import numpy as np
import numpy.typing as npt

from fcn.data.labels import UInt8

CELL = 32  # pixels per side of a cell of the coarsest scores, those of fc7


def translate(pixels: UInt8, down: int, right: int, fill: int | None = None) -> UInt8:
    """Moves the content; what leaves the array is lost. The size stays the same.

    pixels   (H, W) or (H, W, K) uint8
    fill     value of the uncovered border; None repeats the pixels of the edge
    """
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height) - down, np.arange(width) - right
    moved: UInt8 = pixels[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    if fill is not None:
        moved[(rows < 0) | (rows >= height)] = fill
        moved[:, (columns < 0) | (columns >= width)] = fill
    return moved


def nearest(mask: UInt8, width: int, height: int) -> UInt8:
    """(height, width, ...) uint8: the mask resized, each pixel being the one that its centre falls in."""
    rows, columns = (
        ((np.arange(result) + 0.5) * pixels / result).astype(np.int64)
        for pixels, result in zip(mask.shape[:2], (height, width), strict=True)
    )
    resized: UInt8 = mask[rows[:, None], columns]
    return resized


def recolour(image: UInt8, strength: float, rng: np.random.Generator) -> UInt8:
    """Changes brightness, contrast and saturation in random order, each by a factor in 1 ± strength.

    image    (H, W, K) uint8, K >= 3; the first three channels are RGB, the others stay as they are
    source   torchvision's ColorJitter: a blend with black, with the mean grey of the image, and with each pixel's own
             grey; unlike there, values are rounded once, at the end
    """
    colours = image[..., :3].astype(np.float32)
    factors = rng.uniform(1 - strength, 1 + strength, 3).tolist()
    for change in rng.permutation(3):
        factor, (red, green, blue) = factors[change], np.moveaxis(colours, -1, 0)
        grey = 0.2989 * red + 0.587 * green + 0.114 * blue
        other = (0.0, float(np.mean(grey, dtype=np.float64)), grey[..., None])[change]
        colours = (factor * colours + (1 - factor) * other).clip(0, 255)
    return np.concatenate([np.rint(colours).astype(np.uint8), image[..., 3:]], -1)


def ignored_cells(shape: tuple[int, ...], keep: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which pixels are ignored in the loss: each cell of 32×32 pixels independently, with probability 1 - keep.

    The cells start at the top left corner of the image. With `pad: same` they are the areas nearest to the VGG nets'
    cells of the final layer; with `pad: 100` those lie 3 pixels further up and left (centre of cell i at pixel
    32 i + 12.5 instead of 32 i + 15.5).

    shape    (H, W) of the mask
    returns  (H, W) bool
    source   paper sec. 4.3, "Patch Sampling", and fig. 5
    """
    height, width = shape
    ignored = rng.random((-(-height // CELL), -(-width // CELL))) >= keep
    return ignored.repeat(CELL, 0).repeat(CELL, 1)[:height, :width]
