"""Which images a step sees, and how: drawn from seeds image by image, so that it can begin at any step."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fcn.data.labels import VOID, UInt8
from fcn.data.split import Split
from fcn.params import Data


@dataclass(frozen=True)
class SampledImage:
    """One image of a step, as it was cut out.

    image      (H, W, 3) uint8 RGB
    mask       (H, W) uint8, classes 0..C-1 or VOID
    seed       for what is drawn inside the net
    mirrored   whether both are to be learned left side right: left to the device, since NumPy copies what is mirrored
               seventy times as slowly
    """

    name: str
    image: UInt8
    mask: UInt8
    seed: int
    mirrored: bool = False


class Sampler:
    """Draws the images of any step, without having drawn those before it.

    Image number k of a rung is random_k = f(seed, stride, k): neither batch size nor the number of
    processes nor a pause changes it.
    """

    def __init__(self, split: Split, data: Data, *, seed: int, stride: int, batch_size: int) -> None:
        self.split, self.data, self.batch_size = split, data, batch_size
        self.key = (seed, stride)
        self.crop = None if data.crop == "none" else tuple(map(int, data.crop.split("x")))
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.arange(0))

    def draw(self, step: int, share: range | None = None) -> list[SampledImage]:
        """The images of one step, counted from 0; or those at the places of its batch that `share` has."""
        first = step * self.batch_size
        places = range(self.batch_size) if share is None else share
        return [self._image(first + place) for place in places]

    def _image(self, k: int) -> SampledImage:
        rng = np.random.default_rng((*self.key, 0, k))
        seed = int(rng.integers(2**62))
        i = self._position(k) if self.data.sampling == "epochs" else int(rng.integers(len(self.split)))
        image, mask = self.split.image(i), self.split.mask(i)
        if self.crop:
            image, mask = _crop(image, mask, self.crop[0], self.crop[1], rng)
        return SampledImage(self.split.name(i), image, mask, seed, self.data.flip and rng.random() < 0.5)

    def _position(self, k: int) -> int:
        """The image that comes k-th when every epoch has an order of its own."""
        epoch, place = divmod(k, len(self.split))
        if self._order[0] != epoch:
            rng = np.random.default_rng((*self.key, 1, epoch))
            self._order = (epoch, rng.permutation(len(self.split)))
        return int(self._order[1][place])


def _crop(image: UInt8, mask: UInt8, width: int, height: int, rng: np.random.Generator) -> tuple[UInt8, UInt8]:
    """A random part; an image that is smaller is continued with its border pixels, void in the mask."""
    missing = [(0, max(0, height - image.shape[0])), (0, max(0, width - image.shape[1]))]
    if any(after for _, after in missing):
        image = np.pad(image, [*missing, (0, 0)], "edge")
        mask = np.pad(mask, missing, constant_values=VOID)
    y = int(rng.integers(image.shape[0] - height + 1))
    x = int(rng.integers(image.shape[1] - width + 1))
    return image[y : y + height, x : x + width], mask[y : y + height, x : x + width]


def class_weights(split: Split, wanted: str | float | list[float]) -> npt.NDArray[np.float64] | None:
    """(C,) weight of each class in the loss, or None.

    wanted   none, the exponent e of (median frequency / frequency)^e, or the weights themselves

    A class's frequency is its share of the pixels of those images that have it; one that never
    occurs weighs nothing.
    """
    if wanted == "none":
        return None
    if isinstance(wanted, list):
        return np.array(wanted)
    pixels = split.pixels().astype(np.float64)
    seen = pixels.sum(0)
    around = (pixels.sum(1, keepdims=True) * (pixels > 0)).sum(0)
    frequency = seen[seen > 0] / around[seen > 0]
    weights = np.zeros(len(seen))
    weights[seen > 0] = (np.median(frequency) / frequency) ** float(wanted)
    return weights
