"""What nets predicted, gone through image by image: which came out best and worst, where the nets differ, and how
their errors lie about the borders of classes. Nothing grows with the split but a row of numbers an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from fcn.data.labels import UInt8
from fcn.data.split import Split
from fcn.evaluation.borders import FARTHER, NEVER, WITHIN, rings
from fcn.figures import tables

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
ENDS = 10  # images that are shown of the best and of the worst, at most
DISPUTED = 8  # images that are shown of those on which nets differ most


@dataclass(frozen=True)
class Review:
    """scores   of each image by net, (N,) fractions in the split's order, NaN where a mask is all void
    differ   share of each image's pixels on which not all nets agree, (N,) fractions
    pixels   in each ring about the borders of classes: those of WITHIN, then farther
    wrong    how many of them each net has wrong

    Void counts nowhere.
    """

    scores: dict[str, Numbers]
    differ: Numbers
    pixels: Counts
    wrong: dict[str, Counts]

    def tables(self, split: Split) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A row an image, named as `fcn.figures.tables` says; and a row a distance: pixels, and each net's errors."""
        names = [tables.cell(split.name(i)) for i in range(len(split))]
        distances = [*map(str, WITHIN), "farther"]
        return (
            pd.DataFrame({"image": names} | self.scores | {"differ": self.differ}).round(6),
            pd.DataFrame({"distance": distances, "pixels": self.pixels} | self.wrong),
        )


def review(split: Split, folder: Path, nets: Sequence[str]) -> Review:
    """Goes once through the masks of a split and what nets predicted, folder/NET/IMAGE.png."""
    scores = {net: np.full(len(split), np.nan) for net in nets}
    differ = np.full(len(split), np.nan)
    pixels = np.zeros(FARTHER + 1, np.int64)
    wrong = {net: np.zeros_like(pixels) for net in nets}
    for i in range(len(split)):
        mask, found = split.mask(i), predictions(split, folder, nets, i)
        ring = rings(mask)
        here = _count(ring)
        pixels += here
        apart = np.zeros(mask.shape, bool)
        for net, prediction in found.items():
            scores[net][i] = mean_iu(mask, prediction, len(split.labels.names))
            wrong[net] += _count(ring[prediction != mask])
            apart |= prediction != found[nets[0]]
        if here.any():
            differ[i] = _count(ring[apart]).sum() / here.sum()
    return Review(scores, differ, pixels, wrong)


def predictions(split: Split, folder: Path, nets: Sequence[str], i: int) -> dict[str, UInt8]:
    """What each net predicted of image i, (H, W) uint8 in the mask's size."""
    return {net: np.asarray(Image.open(folder / net / f"{split.name(i)}.png")) for net in nets}


def mean_iu(mask: UInt8, prediction: UInt8, num_classes: int) -> float:
    """Over the classes that this image's mask or prediction has; NaN if all of the mask is void.

    Unlike pixel accuracy it does not call an image good for a large sky. Over a split the paper's mean IU leaves out
    classes that no mask has; in one image such a class is an error to be seen, and counts as 0.
    """
    # A row for each value of the mask; those of classes come first. NumPy: so small a sum keeps no second core busy.
    places = mask.astype(np.int32) * num_classes + prediction
    counts = np.bincount(places.ravel(), minlength=256 * num_classes)[: num_classes**2].reshape(num_classes, -1)
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    return float((hits[union > 0] / union[union > 0]).mean()) if union.any() else np.nan


def ends(scores: Numbers, count: int = ENDS) -> tuple[list[int], list[int]]:
    """Places of the best and of the worst, best and worst first; of equals the earlier.

    No more than half of all, so that none is among both, unless there is but one.
    """
    scored = np.flatnonzero(~np.isnan(scores))
    half = min(count, max(1, len(scored) // 2))
    best = scored[np.argsort(-scores[scored], kind="stable")][:half]
    rest = np.setdiff1d(scored, best) if len(scored) > 1 else scored
    worst = rest[np.argsort(scores[rest], kind="stable")][:half]
    return best.tolist(), worst.tolist()


def disputed(differ: Numbers, count: int = DISPUTED) -> list[int]:
    """Places of the images on which nets differ most, the most first; of equals the earlier, none where all agree."""
    order = np.argsort(-np.nan_to_num(differ), kind="stable")[:count]
    return [int(i) for i in order if differ[i] > 0]


def shares(wrong: Counts, pixels: Counts) -> Numbers:
    """Share of the pixels that is wrong, NaN of none."""
    with np.errstate(invalid="ignore"):
        return np.asarray(wrong / pixels)


def _count(ring: UInt8) -> Counts:
    return np.bincount(ring.ravel(), minlength=NEVER + 1)[:NEVER]
