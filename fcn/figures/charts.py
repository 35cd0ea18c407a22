"""Charts of the data, of training and of errors."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

from fcn.data.labels import Labels
from fcn.data.split import Split
from fcn.figures import tables
from fcn.figures.sheets import colour, counted, sheet
from fcn.ladder import NETS
from fcn.runtime import files

if TYPE_CHECKING:
    from torch import Tensor

# By net; orange, green and blue of Okabe and Ito's colour-blind safe palette. The same in .dvc/plots/nets.json.
COLOURS = {"fcn32s": "#e69f00", "fcn16s": "#009e73", "fcn8s": "#0072b2"}
COLUMN, COLUMNS = 40, 3  # classes per column of the class frequency chart, and maximal number of columns


def samples(split: Split, path: Path, count: int = 10) -> None:
    """A contact sheet of images and masks, spread evenly over the split."""
    chosen = np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)
    rows = [[split.picture(i), colour(split.mask(i), split.labels)] for i in chosen]
    sheet(rows, split.labels, path, counted(split.mask(i) for i in chosen))


def predictions(split: Split, folder: Path, nets: Sequence[str], path: Path, count: int = 6) -> None:
    """A contact sheet of image, truth and each net's prediction, for images spread evenly over the split."""
    rows, shown = [], counted([])
    for i in np.linspace(0, len(split) - 1, min(count, len(split))).astype(int):
        predicted = [np.asarray(Image.open(folder / net / f"{split.name(i)}.png")) for net in nets]
        masks = [split.mask(i), *predicted]
        shown += counted(masks)
        rows.append([split.picture(i), *(colour(mask, split.labels) for mask in masks)])
    sheet(rows, split.labels, path, shown, ["image", "truth", *(NETS.get(net, net) for net in nets)])


def class_frequencies(splits: Mapping[str, Split], path: Path) -> None:
    """Each class's share of the pixels in train and val, on a logarithmic axis; of many classes, the most frequent."""
    labels = next(iter(splits.values())).labels
    pixels = {role: split.pixels().sum(0) for role, split in splits.items()}
    shares = {role: counts / max(1, counts.sum()) for role, counts in pixels.items()}
    classes, most = len(labels.names), COLUMN * COLUMNS
    commonest = np.argsort(-np.maximum.reduce(list(shares.values())), kind="stable")
    chosen = np.sort(commonest[:most])
    columns = -(-len(chosen) // COLUMN)
    rows = -(-len(chosen) // columns)
    figure = Figure((7 if columns == 1 else 5 * columns, 0.6 + 0.32 * rows), layout="constrained")
    for k, axes in enumerate(figure.subplots(1, columns, squeeze=False, sharex=True)[0]):
        _frequencies(axes, labels, shares, chosen[k * rows : (k + 1) * rows], rows)
    if classes > most:
        figure.suptitle(f"the {most} commonest classes, and {classes - most} more", fontsize=10)
    files.write_png(path, figure)


def _frequencies(
    axes: Axes, labels: Labels, shares: Mapping[str, npt.NDArray[np.float64]], chosen: npt.NDArray[np.int64], rows: int
) -> None:
    at = np.arange(len(chosen))
    colours = np.array(labels.palette)[chosen] / 255
    for k, (role, share) in enumerate(shares.items()):
        values = share[chosen]
        axes.barh(at + 0.4 * k, values, 0.38, color=colours, edgecolor="black", linewidth=0.5, alpha=1 - 0.5 * k)
        for y, value in zip(at + 0.4 * k, values, strict=True):
            axes.text(value, y, f" {role} {value:.2%}", va="center", fontsize=7)
    axes.set_yticks(at + 0.2, [labels.names[i] for i in chosen], parse_math=False)
    axes.set_ylim(rows - 0.4, -0.4)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())  # the values are next to the bars
    axes.margins(x=0.15)
    axes.set_xlabel("share of pixels")
    axes.spines[["top", "right"]].set_visible(False)


def confusion(counts: "Tensor", labels: Labels, path: Path) -> None:
    """The confusion matrix, normalized by row: for the pixels of each true class, the share of each prediction."""
    shares = (counts.double() / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    classes = len(labels.names)
    side = 2.2 + 0.42 * min(classes, 40)
    figure = Figure((side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares, "Blues", vmin=0, vmax=1)
    axes.set_xticks(range(classes), labels.names, rotation=60, ha="right", fontsize=8, parse_math=False)
    axes.set_yticks(range(classes), labels.names, fontsize=8, parse_math=False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title(f"{NETS.get(path.stem.removeprefix('confusion_'), path.stem)}: share of each class's pixels")
    if classes <= 25:
        for i, j in np.argwhere(shares >= 0.01):
            tone = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=7, color=tone)
    figure.colorbar(shown, shrink=0.7)
    files.write_png(path, figure)


def curves(metrics: Path, path: Path) -> None:
    """Training loss and mean IU of the three rungs, concatenated on one axis of steps."""
    figure = Figure((9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    start = 0
    for net, name in NETS.items():
        train, val = (pd.read_csv(metrics / net / f"{kind}.csv") for kind in ("train", "val"))
        if train.empty:
            continue
        smooth = train["loss"].rolling(min(9, 1 + len(train) // 4), min_periods=1, center=True).mean()
        left.plot(start + train["iteration"], train["loss"], color=COLOURS[net], alpha=0.25, linewidth=0.8)
        left.plot(start + train["iteration"], smooth, "." if len(train) == 1 else "-", color=COLOURS[net], label=name)
        right.plot(start + val["iteration"], val["mean_iu"], "o-", color=COLOURS[net], label=name, markersize=4)
        start += int(train["iteration"].to_numpy()[-1])
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.minorticks_off()
    left.set_ylabel("training loss")
    right.set_ylabel("mean IU on val")
    for axes in (left, right):
        axes.set_xlabel("steps, over all rungs")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:  # none if no rung was trained
            axes.legend()
    files.write_png(path, figure)


def band(curves: Mapping[str, pd.DataFrame], title: str, path: Path) -> None:
    """Mean IU on val of several trainings of the nets, concatenated on one axis of steps.

    curves   by net: `iteration`, `mean` and `sd`, as fractions; the band is mean ± sd
    """
    figure = Figure((6, 3.6), layout="constrained")
    axes = figure.subplots()
    start = 0
    for net, points in curves.items():
        steps, mean, sd = start + points["iteration"], points["mean"], points["sd"]
        style = "o-" if len(points) > 1 else "o"
        axes.plot(steps, mean, style, color=COLOURS[net], label=NETS[net], markersize=4)
        axes.fill_between(steps, mean - sd, mean + sd, color=COLOURS[net], alpha=0.25, linewidth=0)
        axes.errorbar(steps, mean, sd, fmt="none", ecolor=COLOURS[net], elinewidth=1, capsize=2)
        start += int(points["iteration"].to_numpy()[-1])
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("steps, over all rungs")
    axes.set_ylabel("mean IU on val")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if curves:
        axes.legend(loc="lower right")
    files.write_png(path, figure)


def bound(rows: Mapping[int, float], published: Mapping[int, float], title: str, path: Path) -> None:
    """Mean IU, in per cent, of masks downsampled by each factor and upsampled again; the paper's for VOC if given."""
    figure = Figure((6, 3.6), layout="constrained")
    axes = figure.subplots()
    lines = [(rows, "o-", COLOURS["fcn8s"], title), (published, "s--", COLOURS["fcn32s"], "the paper, on VOC 2011")]
    for values, style, hue, name in lines:
        if values:
            axes.plot(list(values), list(values.values()), style, color=hue, label=name, markersize=5)
    for factor, value in rows.items():
        axes.annotate(f"{value:.1f}", (factor, value), (0, -14), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(rows), [str(factor) for factor in rows])
    axes.minorticks_off()
    axes.invert_xaxis()  # finer to the right
    axes.margins(y=0.15)
    axes.set_ylim(top=102)
    axes.set_xlabel("downsampling factor")
    axes.set_ylabel("mean IU of masks down and back, %")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right")
    files.write_png(path, figure)


def class_table(labels: Labels, columns: Mapping[str, Sequence[float]]) -> str:
    """Values by class as CSV: IU and pixels. NaN, such as the IU of a class in no mask, becomes an empty cell.

    Names are escaped by `fcn.figures.tables`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *columns])
    for i, name in enumerate(labels.names):
        values = [column[i] for column in columns.values()]
        writer.writerow([tables.cell(name), *("" if value != value else repr(value) for value in values)])
    return text.getvalue()
