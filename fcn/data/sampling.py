"""Sampling of training images: order, augmentation, random crop, horizontal flip and class weights.

Every draw is seeded per image, so training can start at any step.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fcn.data import augmentation
from fcn.data.labels import VOID, UInt8
from fcn.data.scale import by, shrink
from fcn.data.split import Split
from fcn.params import Data, Size

# What a random stream decides. Each has its own, so that an option does not change what the others draw.
IMAGE, ORDER, SCALE, JITTER, COLOUR, CELLS = range(6)


@dataclass(frozen=True)
class SampledImage:
    """One training image after augmentation and cropping.

    image      (H, W, channels) uint8
    mask       (H, W, 1 or 2) uint8, classes 0..C-1 or VOID, for each score path; VOID also where
               `data.loss_sampling` ignores the loss
    seed       for random draws inside the net (dropout)
    mirrored   whether image and mask are flipped horizontally; the flip is done on the device, because NumPy copies
               a flipped array 70 times slower
    """

    name: str
    image: UInt8
    mask: UInt8
    seed: int
    mirrored: bool = False


class Sampler:
    """Draws the images of any training step, independently of earlier steps.

    The k-th image of a rung is a function of (seed, stride, k) only. Batch size, number of processes and
    interruptions do not change it.
    """

    def __init__(self, split: Split, data: Data, *, seed: int, stride: int, batch_size: int) -> None:
        self.split, self.data, self.batch_size = split, data, batch_size
        self.key = (seed, stride)
        self.colour = data.colour if data.inputs[0] == "rgb" else 0.0
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.arange(0))

    def draw(self, step: int, share: range | None = None) -> list[SampledImage]:
        """The batch of a step, counted from 0; with `share`, only the images at these positions in the batch."""
        first = step * self.batch_size
        positions = range(self.batch_size) if share is None else share
        return [self._image(first + position) for position in positions]

    def _rng(self, stream: int, k: int) -> np.random.Generator:
        return np.random.default_rng((*self.key, stream, k))

    def _image(self, k: int) -> SampledImage:
        data, rng = self.data, self._rng(IMAGE, k)
        seed = int(rng.integers(2**62))
        i = self._shuffled(k) if data.sampling == "epochs" else int(rng.integers(len(self.split)))
        image, mask, crop = self.split.image(i), self.split.masks(i), data.crop
        if data.scale:
            (height, width), (low, high) = mask.shape[:2], data.scale
            size = by(float(self._rng(SCALE, k).uniform(low, high)))((width, height))
            image, mask, crop = shrink(image, *size), augmentation.nearest(mask, *size), crop or Size(width, height)
        if data.jitter:  # the border as in `_crop`: black there would be an edge that no photograph has
            down, right = self._rng(JITTER, k).integers(-data.jitter, data.jitter + 1, 2).tolist()
            image = augmentation.translate(image, down, right)
            mask = augmentation.translate(mask, down, right, VOID)
        if crop:
            image, mask = _crop(image, mask, *crop, rng)
        if self.colour:
            image = augmentation.recolour(image, self.colour, self._rng(COLOUR, k))
        mirrored = data.flip and rng.random() < 0.5
        if data.loss_sampling < 1:
            ignored = augmentation.ignored_cells(mask.shape[:2], data.loss_sampling, self._rng(CELLS, k))
            # The cells are those of the image as the net sees it.
            ignored = ignored[:, ::-1] if mirrored else ignored
            mask = np.where(ignored[..., None], np.uint8(VOID), mask)
        return SampledImage(self.split.name(i), image, mask, seed, mirrored)

    def _shuffled(self, k: int) -> int:
        """Index of the k-th image when every epoch is shuffled separately."""
        epoch, position = divmod(k, len(self.split))
        if self._order[0] != epoch:
            self._order = (epoch, self._rng(ORDER, epoch).permutation(len(self.split)))
        return int(self._order[1][position])


def _crop(image: UInt8, mask: UInt8, width: int, height: int, rng: np.random.Generator) -> tuple[UInt8, UInt8]:
    """Random crop. A smaller image is padded by repeating its border pixels; the mask is padded with VOID."""
    missing = [(0, max(0, height - image.shape[0])), (0, max(0, width - image.shape[1]))]
    if any(after for _, after in missing):
        image = np.pad(image, [*missing, (0, 0)], "edge")
        mask = np.pad(mask, [*missing, (0, 0)], constant_values=VOID)
    y = int(rng.integers(image.shape[0] - height + 1))
    x = int(rng.integers(image.shape[1] - width + 1))
    return image[y : y + height, x : x + width], mask[y : y + height, x : x + width]


def class_weights(split: Split, wanted: float | list[float] | None) -> npt.NDArray[np.float64] | None:
    """(C,) fp64 weight of each class in the loss, or None.

    wanted   data.class_weights: None, the exponent e of (median frequency / frequency)^e, or the weights themselves

    The frequency of a class is its share of the valid pixels in the images that contain it. A class that never
    occurs has weight 0.
    """
    if wanted is None:
        return None
    if isinstance(wanted, list):
        return np.array(wanted)
    pixels = split.pixels().astype(np.float64)
    per_class = pixels.sum(0)
    in_images_with_class = (pixels.sum(1, keepdims=True) * (pixels > 0)).sum(0)
    frequency = per_class[per_class > 0] / in_images_with_class[per_class > 0]
    weights = np.zeros(len(per_class))
    weights[per_class > 0] = (np.median(frequency) / frequency) ** wanted
    return weights
