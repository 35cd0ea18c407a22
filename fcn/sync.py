"""Makes MLflow show every finished experiment: what DVC skipped, restored or ran elsewhere is told from the files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fcn import filling, identity, records, states, store
from fcn.errors import UserError
from fcn.leftovers import left_running
from fcn.states import State
from fcn.store import Store

TRACKED = ("train", "finetune16s", "finetune8s", "evaluate", "report")  # stages that have a run


@dataclass
class Done:
    """What was done for one state.

    row       name of the experiment's row, or why there is none
    added     stages that were added or completed
    missing   outs that no cache here has
    """

    label: str
    row: str
    added: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.label}: {self.row}, " + (", ".join(self.added) + " added" if self.added else "nothing to add")
        if self.missing:
            text += f"; not in the cache here: {', '.join(self.missing[:2])}"
            text += f" and {len(self.missing) - 2} more" if len(self.missing) > 2 else ""
        return text


def sync(newest: int) -> Iterator[str]:
    """Fills the store from DVC's experiments, the newest commits with results, and the workspace; a line for each.

    raises   UserError if the store cannot be reached or written
    """
    found = [*states.experiments(), *states.commits(newest)]
    here = states.workspace()
    try:
        with store.locked():
            runs = Store()
            yield from _close_dead(runs)
        for state in [*found, *([here] if here else [])]:
            if any(stage in state.stages for stage in TRACKED):
                with store.locked():
                    yield str(_mirror(runs, state))
            else:
                yield f"{state.label}: its dvc.lock is of other params or code; no row"
    except (OSError, UserError):
        raise
    except Exception as error:  # whatever a store, its driver or its network can think of
        raise UserError(
            f"{store.shown()} cannot be filled ({store.reason(error)}); `fcn sync` again goes on"
        ) from error


def _close_dead(runs: Store) -> Iterator[str]:
    for run in left_running(runs):
        if runs.get(run.info.run_id).info.status == "RUNNING":  # still: it may have ended by itself just now
            runs.close(run.info.run_id, "KILLED")
            yield f"run {run.info.run_name}: was left RUNNING by a kill, now KILLED"


def _mirror(runs: Store, state: State) -> Done:
    """Adds what the store lacks of one state."""
    row, name = _row(runs, state)
    done = Done(state.label, name)
    stages = {run.data.tags.get("stage"): run for run in _children(runs, row)}
    for stage in (stage for stage in TRACKED if stage in state.stages):
        run = stages.get(stage)
        if run and run.info.status == "RUNNING":
            continue  # its own process will tell
        if filling.fill(runs, row, run and run.info.run_id, state, state.stages[stage], done.missing):
            done.added.append(stage)
    if state.scores:
        runs.scores(row, state.scores, state.time)
    if state.commit:
        runs.tag(row, {"fcn.commit": state.commit})
    over = all(run.info.status == "FINISHED" for run in _children(runs, row))
    if over and runs.get(row).info.status != "FINISHED":
        runs.close(row, "FINISHED", state.time)
    return done


def _children(runs: Store, row: str) -> list[Any]:
    """The stages' runs of a row, finished ones last; those that failed do not count."""
    found = runs.find(f"tags.`mlflow.parentRunId` = '{row}'")
    kept = [run for run in found if run.info.status != "FAILED"]
    return sorted(kept, key=lambda run: bool(run.info.status == "FINISHED"))


def _row(runs: Store, state: State) -> tuple[str, str]:
    """The experiment's row and its name.

    A state without a name of its own is also at home in a row of the same params, code and graph that DVC
    named, or of the same params and scores: an edit of code that no stage reads is no new experiment.
    """
    key = identity.key(state.values, state.digests, state.name)
    found = runs.find(f"tags.`fcn.key` = '{key}'")
    if not found and not state.name:
        found = runs.find(f"tags.`fcn.base` = '{key}'") or _alike(runs, state)
    if found:
        return str(found[-1].info.run_id), str(found[-1].info.run_name)
    tags = {"mlflow.source.git.commit": state.code} if state.code else {}
    row = records.new_row(runs, state.values, state.digests, state.name, tags, state.time)
    return row, str(runs.get(row).info.run_name)


def _alike(runs: Store, state: State) -> list[Any]:
    if not state.scores:
        return []
    name, value = next(reversed(state.scores.items()))
    pairs = {key: str(value) for key, value in identity.flat(state.values).items()}
    rows = runs.find(f"metrics.`{name}` = {value!r}")
    return [
        row
        for row in rows
        if row.data.params == pairs
        and state.scores.items() <= row.data.metrics.items()
        and "mlflow.parentRunId" not in row.data.tags
    ]
