"""Pixel counts by image and class of a finished experiment, recomputed from DVC's cache.

The masks are those of the packed val split, the predictions those that evaluate wrote. Both are cached outs, so that
nothing is computed by a net, older experiments have counts too, and the counts are exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fcn.comparison.significance import Counts, mean_iu
from fcn.data.labels import UInt8
from fcn.data.split import Split
from fcn.experiments import history
from fcn.experiments.history import Snapshot
from fcn.ladder import NETS
from fcn.metrics.scores import confusion
from fcn.pipeline import cache
from fcn.runtime.errors import UserError, in_one_line

PREDICTIONS = "data/predictions"
VAL = ("val.images", "val.masks", "val.csv", "classes.json", "geometric.json", "inputs.json")
EXACT = 1e-9  # scores.json has sums of the same integers


@dataclass(frozen=True)
class Cached:
    """The val split and the predictions of an experiment, in DVC's cache.

    predictions   md5 of each file by its path below data/predictions
    """

    label: str
    split: Split
    predictions: Mapping[str, str]
    scores: Mapping[str, float]

    def prediction(self, net: str, i: int) -> UInt8:
        """(H, W) uint8, the prediction for image i at the mask's size.

        raises   UserError if the cache does not have it, or it is no such picture
        """
        name = f"{net}/{self.split.name(i)}.png"
        path = cache.find(self.predictions.get(name, ""))
        if path is None:
            raise _missing(f"{PREDICTIONS}/{name}", self.label)
        height, width = self.split.mask(i).shape
        try:
            with Image.open(path) as picture:
                if picture.mode != "P" or picture.size != (width, height):
                    raise UserError(f"{PREDICTIONS}/{name} of {self.label} is no prediction of {width}x{height} pixels")
                return np.asarray(picture)
        except OSError as error:
            raise UserError(f"{PREDICTIONS}/{name} of {self.label} cannot be read ({in_one_line(error)})") from None

    def count(self, net: str) -> Counts:
        """(N, 3, C) counts of a net, as `fcn.metrics.counting.Counts.images`.

        raises   UserError if a prediction is missing or invalid, or if the counts do not give the recorded mean IU
        """
        counts = []
        for i in range(len(self.split)):
            mask, prediction = (
                torch.from_numpy(array.copy()) for array in (self.split.mask(i), self.prediction(net, i))
            )
            try:
                matrix = confusion(mask, prediction, len(self.split.labels.names))
            except ValueError as error:
                raise UserError(f"{PREDICTIONS}/{net}/{self.split.name(i)}.png of {self.label}: {error}") from None
            counts.append(torch.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)]).numpy())
        whole = np.stack(counts)
        recorded = self.scores[f"{net}.mean_iu"]
        if not abs(float(mean_iu(whole.sum(0))) - recorded) < EXACT:
            raise UserError(f"the cached predictions of {self.label} do not have its recorded mean IU of {NETS[net]}")
        return whole


def opened(state: Snapshot, folder: Path) -> Cached:
    """The val split and predictions of an experiment.

    folder   empty; the cached files of the split are linked into it, under their names
    raises   UserError if the cache does not have them
    """
    packed = history.PACKED.as_posix()
    files = cache.expand(packed, state.digest(packed) or "")
    predictions = cache.expand(PREDICTIONS, state.digest(PREDICTIONS) or "")
    for name in VAL:
        path = cache.find(files.get(f"{packed}/{name}", ""))
        if path:
            (folder / name).symlink_to(path.absolute())
        elif f"{packed}/{name}" in files or not files:
            raise _missing(packed, state.label)
    if not any(path.startswith(f"{PREDICTIONS}/") for path in predictions):
        raise _missing(PREDICTIONS, state.label)
    inside = {path.removeprefix(f"{PREDICTIONS}/"): md5 for path, md5 in predictions.items()}
    return Cached(state.label, Split(folder, "val"), inside, state.scores)


def _missing(path: str, label: str) -> UserError:
    return UserError(
        f"DVC's cache does not have {path} of {label}; if a remote has it: `dvc fetch --all-commits {path}`, "
        "or `dvc exp pull` for an experiment"
    )
