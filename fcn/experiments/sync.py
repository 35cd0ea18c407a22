"""Makes MLflow show every finished experiment: what DVC skipped, restored or ran elsewhere is told from the files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fcn.experiments import backfill, history
from fcn.experiments.history import Snapshot
from fcn.experiments.leftovers import left_running
from fcn.runtime.errors import UserError
from fcn.tracking import identity, records, store
from fcn.tracking.records import STAGES
from fcn.tracking.store import Store


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


@dataclass
class Note:
    """What was done beside, or not done, in a line."""

    text: str

    def __str__(self) -> str:
        return self.text


def sync(newest: int) -> Iterator[Done | Note]:
    """Fills the store from DVC's experiments, the newest commits with results, and the workspace.

    raises   UserError if the store cannot be reached or written
    """
    found, left_out = history.known(newest)
    yield from map(Note, left_out)
    try:
        with store.locked():
            runs = Store()
            yield from map(Note, _close_dead(runs))
        for state in found:
            if not any(stage in state.stages for stage in STAGES):
                yield Note(f"{state.label}: its dvc.lock is of other params or code; no row")
                continue
            with store.locked():
                try:
                    done: Done | Note = _mirror(runs, state)
                except Exception as error:  # of UserError and MLflow: what this state's files say is refused
                    if not isinstance(error, UserError) and not store.is_refusal(error):
                        raise
                    done = Note(f"{state.label}: left out, {store.reason(error)}")
            yield done
    except (OSError, UserError):
        raise
    except Exception as error:  # any error of the store, its driver or its network
        raise UserError(
            f"{store.safe_address()} cannot be filled ({store.reason(error)}); `fcn sync` again goes on"
        ) from error


def summary(lines: Iterator[Done | Note]) -> str:
    """What was done, in one line."""
    done = list(lines)
    states = [line for line in done if isinstance(line, Done)]
    added, notes = sum(bool(state.added) for state in states), len(done) - len(states)
    text = f"MLflow shows {len(states)} experiments and commits, {added} of them updated now"
    return text + (f"; notes on {notes} others: `fcn sync`" if notes else "")


def _close_dead(runs: Store) -> Iterator[str]:
    for run in left_running(runs):
        if runs.get(run.info.run_id).info.status == "RUNNING":  # still: it may have ended by itself just now
            runs.close(run.info.run_id, "KILLED")
            what = "run" if "mlflow.parentRunId" in run.data.tags else "experiment"
            yield f"{what} {run.info.run_name}: ended before it was finished, now KILLED"


def _mirror(runs: Store, state: Snapshot) -> Done:
    """Adds what the store lacks of one state."""
    row, name = _row(runs, state)
    done = Done(state.label, name)
    if state.scores:  # first, and of them the finest net's mean IU: a comparison in MLflow opens on it
        finest = list(reversed(state.scores))
        names = sorted(finest, key=lambda name: not name.endswith(".mean_iu"))
        runs.scores(row, {name: state.scores[name] for name in names}, state.time)
    stages = {run.data.tags.get("stage"): run for run in _children(runs, row)}
    for stage in (stage for stage in STAGES if stage in state.stages):
        run = stages.get(stage)
        if run and run.info.status == "RUNNING":
            continue  # its own process will tell
        if backfill.fill(runs, row, run and run.info.run_id, state, state.stages[stage], done.missing):
            done.added.append(stage)
    tags = records.labels(state.experiment) | ({"fcn.commit": state.commit} if state.commit else {})
    have = runs.get(row).data.tags
    runs.tag(row, {tag: text for tag, text in tags.items() if have.get(tag) != text})
    _close(runs, row, state)
    return done


def _close(runs: Store, row: str, state: Snapshot) -> None:
    """Ends a row on which nobody is at work: FINISHED with its last stage, else KILLED."""
    run, children = runs.get(row), _children(runs, row)
    if records.is_owned(run) or any(child.info.status == "RUNNING" for child in children):
        return
    last = [stage for stage in STAGES if stage in state.graph][-1]
    if any(child.data.tags.get("stage") == last and child.info.status == "FINISHED" for child in children):
        status = "FINISHED"
    else:
        status = "KILLED" if run.info.status == "RUNNING" else run.info.status
    if run.info.status != status:
        runs.close(row, status, state.time)


def _children(runs: Store, row: str) -> list[Any]:
    """The stages' runs of a row, finished ones last; those that failed do not count."""
    found = runs.find(f"tags.`mlflow.parentRunId` = '{row}'")
    kept = [run for run in found if run.info.status != "FAILED"]
    return sorted(kept, key=lambda run: bool(run.info.status == "FINISHED"))


def _row(runs: Store, state: Snapshot) -> tuple[str, str]:
    """The experiment's row and its name.

    A state without a name of its own is also at home in a row of the same params, code, graph and data that DVC
    named, or of the same params, data and scores: an edit of code that no stage reads is no new experiment. A row with
    other scores is another training's.
    """
    experiment = state.experiment
    found = [row for row in records.rows(runs, experiment) if _agrees(row, state)]
    if not found and not state.name:
        found = [row for row in records.named(runs, experiment) if _agrees(row, state)] or _alike(runs, state)
    if found:
        return str(found[0].info.run_id), str(found[0].info.run_name)
    tags = {"mlflow.source.git.commit": state.code} if state.code else {}
    row = records.new_row(runs, experiment, tags, state.time)
    return row, str(runs.get(row).info.run_name)


def _agrees(row: Any, state: Snapshot) -> bool:
    """Whether a row has no other score than the state."""
    have = row.data.metrics
    return all(store.rounded(have.get(name, value)) == store.rounded(value) for name, value in state.scores.items())


def _alike(runs: Store, state: Snapshot) -> list[Any]:
    if not state.scores:
        return []
    name, value = next(reversed(state.scores.items()))
    pairs = {key: str(value) for key, value in identity.flat(state.values).items()}
    data = {state.experiment.data}
    return [
        row
        for row in runs.find(f"metrics.`{name}` >= {max(0.0, value - store.RESOLUTION):.6f}")
        if "mlflow.parentRunId" not in row.data.tags
        and row.data.params == pairs
        and state.scores.keys() <= row.data.metrics.keys()
        and _agrees(row, state)
        and ({row.data.tags[records.DATA]} if records.DATA in row.data.tags else records.data(row)) == data
    ]
