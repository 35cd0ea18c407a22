"""Mean and standard deviation of scores and curves over experiments that differ only in their seed."""

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fcn.experiments import backfill
from fcn.experiments.history import Snapshot
from fcn.ladder import LADDER, NETS, SCORES

VAL = "val.mean_iu"


@dataclass(frozen=True)
class Spread:
    """A score over several seeds, as fractions.

    values  by seed
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def sd(self) -> float:
        """The standard deviation of the sample, with n - 1."""
        return statistics.stdev(self.values)


def by_seed(states: Sequence[Snapshot]) -> list[Snapshot]:
    return sorted(states, key=seed)


def seed(state: Snapshot) -> int:
    return int(state.values["seed"])


def scores(states: Sequence[Snapshot]) -> dict[str, Spread]:
    """The spread of each `NET.SCORE` that all the experiments have."""
    tables = [state.scores for state in states]
    names = [f"{net}.{score}" for net in NETS for score in SCORES]
    return {
        name: Spread(tuple(table[name] for table in tables)) for name in names if all(name in table for table in tables)
    }


def text(states: Sequence[Snapshot]) -> str:
    """The table of means ± standard deviations in per cent, by net and score; — for a net without a score."""
    found = scores(states)
    lines = [["", *SCORES.values()]]
    for net, title in NETS.items():
        cells = [found.get(f"{net}.{score}") for score in SCORES]
        lines.append([title, *(f"{100 * cell.mean:.1f} ± {100 * cell.sd:.1f}" if cell else "—" for cell in cells)])
    return "\n".join("  ".join(f"{cell:<14}" for cell in line).rstrip() for line in lines)


def table(states: Sequence[Snapshot]) -> str:
    """CSV with a line for each net and score: mean, standard deviation, and the value of each seed, as fractions."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["net", "score", "mean", "sd", *(f"seed {seed(state)}" for state in states)])
    for name, spread in scores(states).items():
        writer.writerow([*name.split("."), spread.mean, spread.sd, *spread.values])
    return out.getvalue()


def curves(states: Sequence[Snapshot]) -> dict[str, pd.DataFrame]:
    """Mean IU on val during training, by net: `iteration`, `mean` and `sd` (n - 1). Only of trained nets."""
    found = {}
    for net in LADDER:
        rows = [
            (row["iteration"], row[VAL])
            for state in states
            for points in backfill.curves(state, net.stage)
            for row in points
            if VAL in row
        ]
        values = pd.DataFrame(rows, columns=["iteration", "value"]).groupby("iteration")["value"]
        if rows:
            found[net.name] = values.agg(mean="mean", sd="std").reset_index()
    return found
