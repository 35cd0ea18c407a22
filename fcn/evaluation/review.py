"""Review predictions image by image: the best and worst images, where the nets differ, and errors by distance from
class borders. Memory use is constant except for one row of numbers per image.
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
MAX_ENDS = 10  # best images shown, and worst images shown
MAX_DISPUTED = 8  # images shown on which nets differ most


@dataclass(frozen=True)
class Review:
    """The review of a split; void pixels are not counted.

    scores   mean IU of each image by net, (N,) fractions in the split's order, NaN if a mask is all void
    differ   fraction of each image's pixels on which the nets do not all agree, (N,)
    pixels   number of pixels by distance from a class border: those of WITHIN, then farther
    wrong    number of wrong pixels by distance, for each net
    """

    scores: dict[str, Numbers]
    differ: Numbers
    pixels: Counts
    wrong: dict[str, Counts]

    def tables(self, split: Split) -> tuple[pd.DataFrame, pd.DataFrame]:
        """One row per image, with names escaped by `fcn.figures.tables`; one row per distance: pixels and errors."""
        names = [tables.cell(split.name(i)) for i in range(len(split))]
        distances = [*map(str, WITHIN), "farther"]
        return (
            pd.DataFrame({"image": names} | self.scores | {"differ": self.differ}).round(6),
            pd.DataFrame({"distance": distances, "pixels": self.pixels} | self.wrong),
        )


def review(split: Split, folder: Path, scores: dict[str, Numbers]) -> Review:
    """Review the predictions of a split, folder/NET/IMAGE.png, in one pass.

    scores   mean IU of each image by net
    """
    nets = list(scores)
    differ = np.full(len(split), np.nan)
    pixels = np.zeros(FARTHER + 1, np.int64)
    wrong = {net: np.zeros_like(pixels) for net in nets}
    for i in range(len(split)):
        mask, predicted = split.mask(i), predictions(split, folder, nets, i)
        ring = rings(mask)
        counts = _count(ring)
        pixels += counts
        disagree = np.zeros(mask.shape, bool)
        for net, prediction in predicted.items():
            wrong[net] += _count(ring[prediction != mask])
            disagree |= prediction != predicted[nets[0]]
        if counts.any():
            differ[i] = _count(ring[disagree]).sum() / counts.sum()
    return Review(scores, differ, pixels, wrong)


def predictions(split: Split, folder: Path, nets: Sequence[str], i: int) -> dict[str, UInt8]:
    """Each net's prediction for image i, (H, W) uint8 at the mask's size."""
    return {net: np.asarray(Image.open(folder / net / f"{split.name(i)}.png")) for net in nets}


def ends(scores: Numbers, count: int = MAX_ENDS) -> tuple[list[int], list[int]]:
    """Indices of the best images, best first, and of the worst, worst first; ties keep the split's order.

    Each list has at most half of all images, so that they do not overlap, except for a single image.
    """
    scored = np.flatnonzero(~np.isnan(scores))
    half = min(count, max(1, len(scored) // 2))
    best = scored[np.argsort(-scores[scored], kind="stable")][:half]
    rest = np.setdiff1d(scored, best) if len(scored) > 1 else scored
    worst = rest[np.argsort(scores[rest], kind="stable")][:half]
    return best.tolist(), worst.tolist()


def disputed(differ: Numbers, count: int = MAX_DISPUTED) -> list[int]:
    """Indices of the images on which nets differ most, in descending order; images on which all agree are excluded."""
    order = np.argsort(-np.nan_to_num(differ), kind="stable")[:count]
    return [int(i) for i in order if differ[i] > 0]


def shares(wrong: Counts, pixels: Counts) -> Numbers:
    """Fraction of the pixels that is wrong; NaN if there are none."""
    with np.errstate(invalid="ignore"):
        return np.asarray(wrong / pixels)


def _count(ring: UInt8) -> Counts:
    return np.bincount(ring.ravel(), minlength=NEVER + 1)[:NEVER]
