"""The comparison of two sides: what differs, scores with their uncertainty, and the classes and images that change."""

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fcn.comparison import counts, differences, significance
from fcn.comparison.counts import Cached
from fcn.comparison.runs import KINDS, SCORED, Run, Side
from fcn.comparison.significance import Counts, Interval, Numbers
from fcn.data.labels import Labels, UInt8
from fcn.figures import sheets, tables
from fcn.ladder import HELD_OUT, NETS, SCORES
from fcn.metrics.scores import image_mean_iu
from fcn.runtime.errors import UserError

MOST = 4  # images shown that gained, and that lost
FEW_IMAGES = 20  # with fewer, a bootstrap finds differences where there are none in more than 5 % of comparisons


@dataclass(frozen=True)
class Score:
    """A score of both sides.

    name       NET.SCORE
    one, other values of each run, fractions; empty if a run does not have the score
    interval   of the difference of means, if one can be computed
    """

    name: str
    one: list[float]
    other: list[float]
    interval: Interval | None

    @property
    def difference(self) -> float | None:
        """The difference of the means; None if a side does not have the score."""
        return float(np.mean(self.other) - np.mean(self.one)) if self.one and self.other else None


@dataclass(frozen=True)
class Image:
    """An image of val that gained or lost, with each side's mean IU on it, averaged over its runs, and pictures.

    pictures   image, truth, and the predictions of the first run of each side, (H, W, 3) uint8
    shown      (256,) int64, pixels of each class in truth and predictions; entry VOID counts void
    """

    name: str
    one: float
    other: float
    pictures: tuple[UInt8, ...] = field(repr=False)
    shown: Counts = field(repr=False)


@dataclass
class Comparison:
    """Two sides compared; differences are other - one.

    reason   why the scores cannot be compared; empty if they can
    method   how the intervals were computed; empty if there are none
    notes    what could not be compared, and why
    params   as `differences.params`
    code     as `differences.code`, or None if a side has no files
    inputs   as `differences.inputs`
    net      the finest net that both have a score of; classes and images are those of it
    classes  IU of each class: name, and the mean over the runs of each side, in the order of the change
    gained   images that gained most, `lost` those that lost most
    labels   classes and colours, if pictures are shown
    """

    one: Side
    other: Side
    reason: str
    method: str = ""
    notes: list[str] = field(default_factory=list)
    params: list[tuple[str, str, str]] = field(default_factory=list)
    code: list[differences.Changed] | None = None
    inputs: list[str] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    net: str = ""
    classes: list[tuple[str, float, float]] = field(default_factory=list)
    gained: list[Image] = field(default_factory=list)
    lost: list[Image] = field(default_factory=list)
    labels: Labels | None = None


def compare(one: Side, other: Side) -> Comparison:
    """Compares two sides. What cannot be computed, such as intervals without DVC's cache, is left out with a note."""
    reasons = (differences.incomparable(one.first, run) for run in (*one.runs[1:], *other.runs))
    found = Comparison(one, other, next(filter(None, reasons), ""))
    found.params = differences.params(one, other)
    states = one.first.state, other.first.state
    if states[0] and states[1]:
        found.code = differences.code(states[0], states[1])
        found.inputs = differences.inputs(states[0], states[1])
    if not found.reason and not all(run.data for side in (one, other) for run in side.runs):
        found.notes.append("a digest of the data is not recorded; params say that both were scored on the same")
    common = [net for net in NETS if all(f"{net}.mean_iu" in run.scores for run in (*one.runs, *other.runs))]
    found.net = common[-1] if common and not found.reason else ""
    intervals: Mapping[str, Interval | None] = {}
    if found.net:
        with _cached((*one.runs, *other.runs), found.notes) as cached:
            intervals = _intervals(found, common, cached)
            if cached:
                _examine(found, cached)
        if not found.classes:
            _read_classes(found)
    for name in SCORED:
        values = one.values(name), other.values(name)
        if any(values):
            found.scores.append(Score(name, *values, intervals.get(name)))
    if not differences.is_same_test([*one.runs, *other.runs]):
        shown = [score for score in found.scores if not score.name.partition(".")[2].startswith(HELD_OUT)]
        if len(shown) < len(found.scores):
            found.notes.append("scores on the held-out split are left out: it differs, or its digest is not recorded")
        found.scores = shown
    return found


@contextmanager
def _cached(runs: Sequence[Run], notes: list[str]) -> Iterator[list[Cached]]:
    """The predictions of each run; empty, with a note, if DVC's cache lacks those of any."""
    with ExitStack() as stack:
        try:
            found = []
            for run in runs:
                if run.state is None:
                    raise UserError(f"only scores are recorded of {run.name}, no predictions")
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                found.append(counts.opened(run.state, folder))
        except UserError as error:
            notes.append(f"without images and bootstrap: {error}")
            found = []
        yield found


def _intervals(found: Comparison, nets: Sequence[str], cached: list[Cached]) -> Mapping[str, Interval | None]:
    sizes = [len(side.runs) for side in (found.one, found.other)]
    if min(sizes) > 1:
        found.method = f"Welch's test over {sizes[0]} and {sizes[1]} runs"
        pairs = {name: [side.values(name) for side in (found.one, found.other)] for name in SCORED}
        return {name: significance.welch(*values) for name, values in pairs.items()}
    if sizes != [1, 1]:
        found.notes.append("no test: one side has several runs, the other only one; `fcn seeds` runs more")
        return {}
    if not cached:
        return {}
    try:
        first, second = cached
        intervals = {f"{net}.mean_iu": significance.bootstrap(first.count(net), second.count(net)) for net in nets}
    except (UserError, ValueError) as error:
        found.notes.append(f"without bootstrap: {error}")
        return {}
    found.method = f"bootstrap of mean IU over the {len(first.split)} images of val"
    if len(first.split) < FEW_IMAGES:
        found.notes.append(f"val has only {len(first.split)} images: intervals of so few are too narrow")
    return intervals


def _examine(found: Comparison, cached: list[Cached]) -> None:
    """Finds the classes and images that gained or lost most."""
    first, count = cached[0], len(found.one.runs)
    try:
        tables_ = [one.count(found.net) for one in cached]
        iu = [significance.class_iu(table.sum(0)) for table in tables_]
        found.classes = _by_change(first.split.labels.names, *_means(iu, count))
        one, other = _means([_image_iu(table) for table in tables_], count)
        change = other - one
        order = [int(i) for i in np.argsort(np.nan_to_num(change), kind="stable")]
        shown = {
            i: Image(
                first.split.name(i), float(one[i]), float(other[i]), *_pictures(cached[0], cached[count], found.net, i)
            )
            for i in {*order[:MOST], *order[-MOST:]}
            if change[i]
        }
    except UserError as error:
        found.notes.append(f"without images: {error}")
        return
    found.gained = [shown[i] for i in order[: -MOST - 1 : -1] if change[i] > 0]
    found.lost = [shown[i] for i in order[:MOST] if change[i] < 0]
    found.labels = first.split.labels


def _image_iu(table: Counts) -> Numbers:
    return np.asarray(image_mean_iu(torch.from_numpy(table)))


def _means(values: Sequence[Numbers], count: int) -> tuple[Numbers, Numbers]:
    """The mean of the first `count` arrays, and that of the others."""
    return np.mean(values[:count], 0), np.mean(values[count:], 0)


def _pictures(one: Cached, other: Cached, net: str, i: int) -> tuple[tuple[UInt8, ...], Counts]:
    masks = one.split.mask(i), one.prediction(net, i), other.prediction(net, i)
    return (one.split.picture(i), *(sheets.colour(mask, one.split.labels) for mask in masks)), sheets.counted(masks)


def _by_change(names: Sequence[str], one: Numbers, other: Numbers) -> list[tuple[str, float, float]]:
    """Names and values of the classes that both have an IU of, the largest gain first."""
    rows = [
        row for row in zip(names, one.tolist(), other.tolist(), strict=True) if row[1] == row[1] and row[2] == row[2]
    ]
    return sorted(rows, key=lambda row: row[1] - row[2])


def _read_classes(found: Comparison) -> None:
    """The classes from metrics/classes.csv, which git has, if DVC's cache lacks the predictions."""
    values, names = [], list[str]()
    for run in (*found.one.runs, *found.other.runs):
        content = run.state.content.get("metrics/classes.csv") if run.state else None
        try:
            table = pd.read_csv(io.BytesIO(content or b""), dtype={"class": str}, keep_default_na=False, na_values=[""])
            names = [tables.name(cell) for cell in table["class"]]
            values.append(table[found.net].to_numpy(float))
        except (ValueError, KeyError):
            return
    if len({len(column) for column in values}) == 1:
        found.classes = _by_change(names, *_means(values, len(found.one.runs)))


def titles(name: str) -> tuple[str, str]:
    """Net and score of a name NET.SCORE, in print."""
    net, _, score = name.partition(".")
    kind = max((kind for kind in KINDS if score.startswith(kind)), key=len)
    return NETS[net], KINDS[kind] + SCORES[score.removeprefix(kind)]
