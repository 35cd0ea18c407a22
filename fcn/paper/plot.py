"""The plot of a finding."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from fcn.figures.charts import COLOURS
from fcn.runtime import files


def dots(rows: Mapping[str, Sequence[float]], path: Path, label: str) -> None:
    """A line of dots per row, one for each value, with mean ± standard deviation above."""
    figure = Figure((7, 0.9 + 0.42 * len(rows)), layout="constrained", dpi=80)
    axes = figure.subplots()
    for y, values in enumerate(rows.values()):
        mean, sd = statistics.mean(values), statistics.stdev(values)
        axes.errorbar(mean, y, xerr=sd, fmt="|", color=COLOURS["fcn8s"], markersize=14, capsize=3)
        axes.plot(values, [y] * len(values), "o", color=COLOURS["fcn32s"], markersize=5, alpha=0.8)
        axes.annotate(f"{mean:.1f}", (mean, y), (0, 9), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows), parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.margins(x=0.08)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    files.write_png(path, figure)
