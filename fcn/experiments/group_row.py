"""A group's row in MLflow: its experiments' rows as children; the means of seeds, or the best trial of a search."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcn.experiments import spread
from fcn.experiments.history import Snapshot
from fcn.tracking import groups, records
from fcn.tracking.identity import Experiment, flat, same
from fcn.tracking.store import Store

SEEDS = "seeds"  # tag of a group's row


def members(states: Sequence[Snapshot]) -> dict[str, list[Snapshot]]:
    """The experiments with scores by group, each by seed; of several with one name, the last."""
    found: dict[str, dict[str | None, Snapshot]] = {}
    for state in states:
        if (group := groups.of(state.name)) and state.scores and isinstance(state.values.get("seed"), int):
            found.setdefault(group, {})[state.name] = state
    return {group: spread.by_seed([*named.values()]) for group, named in found.items()}


def opened(
    runs: Store, group: str, experiments: Sequence[Experiment], tags: Mapping[str, str], began: int | None = None
) -> tuple[str, bool]:
    """Finds or creates a group's row, with the params that its experiments have in common. Needs the store's lock.

    experiments   of the group, at least one
    returns       its id, and whether it is new
    """
    if row := groups.row(runs, group):
        return str(row.info.run_id), False
    values = _common([experiment.values for experiment in experiments])
    values.pop("seed", None)
    return groups.create(runs, group, values, {**records.labels(experiments[0]), **tags}, began), True


def _common(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The values that all tables have, by flat key."""
    first, *others = [flat(table) for table in tables]
    return {key: value for key, value in first.items() if all(key in one and same(one[key], value) for one in others)}


def fill(runs: Store, group: str, states: Sequence[Snapshot]) -> list[str]:
    """Updates a group's row from its finished experiments, or creates it. Needs the store's lock.

    states    by seed
    returns   what was added
    """
    first = states[0]
    tags = {"mlflow.source.git.commit": first.code} if first.code else {}
    row, is_new = opened(runs, group, [state.experiment for state in states], tags, min(state.time for state in states))
    added, pruned = [], set()
    for state in states:
        for child in records.rows(runs, state.experiment):
            pruned |= {state.name} if groups.PRUNED in child.data.tags else set()
            if child.data.tags.get("mlflow.parentRunId") != row:
                runs.tag(child.info.run_id, {"mlflow.parentRunId": row})
                added.append(str(child.info.run_name))
            if "images" in child.data.tags:
                runs.tag(row, {"images": child.data.tags["images"]})
    seeds = ", ".join(str(spread.seed(state)) for state in states)
    if groups.is_of_seeds(group) and len(states) > 1 and runs.get(row).data.tags.get(SEEDS) != seeds:
        found = reversed(spread.scores(states).items())  # the finest net first: MLflow's comparisons open on it
        ordered = sorted(found, key=lambda pair: not pair[0].endswith(".mean_iu"))
        runs.scores(row, {name: score.mean for name, score in ordered}, states[-1].time)
        runs.scores(row, {f"{name}{groups.SD}": score.sd for name, score in ordered}, states[-1].time)
        with tempfile.TemporaryDirectory() as temporary:
            for path, folder in zip(write(group, states, Path(temporary)), (None, "figures"), strict=True):
                runs.client.log_artifact(row, str(path), folder)
        runs.tag(row, {SEEDS: seeds})
        added.append(f"seeds {seeds}")
    key = f"{groups.searched(group)}.mean_iu"
    named = {state.name: state for state in states if state.name and state.name not in pruned and key in state.scores}
    best = max(sorted(named), key=lambda name: named[name].scores[key], default=None)
    if best and runs.get(row).data.tags.get(groups.BEST) != best:
        runs.scores(row, {key: named[best].scores[key]}, named[best].time)
        runs.tag(row, {groups.BEST: best})
        added.append(f"best {best}")
    if is_new:
        runs.close(row, "FINISHED", max(state.time for state in states))
    return added


def write(group: str, states: Sequence[Snapshot], folder: Path) -> tuple[Path, Path]:
    """Writes the table GROUP.csv and the figure GROUP.png of at least two experiments into a folder."""
    from fcn.figures import charts
    from fcn.runtime import files

    table, figure = folder / f"{group}.csv", folder / f"{group}.png"
    files.write_text(table, spread.table(states))
    charts.band(spread.curves(states), f"{len(states)} seeds: mean ± standard deviation", figure)
    return table, figure
