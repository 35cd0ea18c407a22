"""Charts of the results of `fcn.evaluation.review`: errors by distance from class borders, and IU by class."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fcn.data.labels import Labels
from fcn.evaluation.borders import WITHIN
from fcn.evaluation.review import Numbers, Review, shares
from fcn.figures.charts import COLOURS
from fcn.ladder import NETS
from fcn.runtime import files

MAX_ROWS = 80  # classes per column of a chart


def borders(review: Review, path: Path) -> None:
    """Share of wrong pixels by distance from a class border, one line per net: within each distance, and at it."""
    ends = list(map(str, WITHIN))
    rings = [high if int(high) - int(low) == 1 else f"{int(low) + 1}–{high}" for low, high in pairwise(["0", *ends])]
    within = {net: shares(wrong.cumsum(), review.pixels.cumsum()) for net, wrong in review.wrong.items()}
    at = {net: shares(wrong, review.pixels) for net, wrong in review.wrong.items()}
    part = review.pixels / max(1, review.pixels.sum())
    figure = Figure((9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _by_distance(left, "within a distance", within, part.cumsum(), [*ends, "any"])
    _by_distance(right, "at a distance", at, part, [*rings, f"> {ends[-1]}"])
    left.set_ylabel("wrong pixels, %")
    figure.supxlabel("pixels to the nearest pixel of another class; below, their share of all pixels", fontsize=9)
    files.write_png(path, figure)


def _by_distance(axes: Axes, title: str, wrong: Mapping[str, Numbers], part: Numbers, names: Sequence[str]) -> None:
    for net, values in wrong.items():
        axes.plot(range(len(names)), 100 * values, "o-", color=COLOURS[net], label=NETS[net], markersize=4)
    axes.set_xticks(range(len(names)), [f"{n}\n{100 * p:.0f} %" for n, p in zip(names, part, strict=True)], fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend()


def class_iu(labels: Labels, iu: Mapping[str, Sequence[float]], path: Path) -> None:
    """IU by class, one dot per net, sorted by the finest net's IU; classes in no mask are excluded."""
    values = 100 * np.array(list(iu.values()))
    means = np.nanmean(values, axis=1)
    order = np.argsort(-values[-1], kind="stable")
    order = order[~np.isnan(values[-1][order])]
    columns = -(-len(order) // MAX_ROWS)
    rows = -(-len(order) // columns)
    figure = Figure((2.2 + 4.2 * columns, 1.2 + 0.19 * rows), layout="constrained")
    for k, axes in enumerate(figure.subplots(1, columns, squeeze=False, sharex=True)[0]):
        chosen = order[k * rows : (k + 1) * rows]
        at = np.arange(len(chosen))
        part = values[:, chosen]
        axes.hlines(at, part.min(axis=0), part.max(axis=0), color="#cccccc", linewidth=2, zorder=1)
        for net, row, mean in zip(iu, part, means, strict=True):
            axes.axvline(mean, color=COLOURS[net], linestyle=":", linewidth=1, zorder=0)
            axes.scatter(row, at, 22, COLOURS[net], label=f"{NETS[net]}, mean {mean:.1f}", zorder=2)
        axes.set_yticks(at, [labels.names[i] for i in chosen], fontsize=8, parse_math=False)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_xlim(-2, 102)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("IU, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(iu), fontsize=8)
    files.write_png(path, figure)
