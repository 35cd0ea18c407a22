"""`fcn sync`: adds finished experiments to MLflow from files, even if DVC skipped, restored or ran them elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fcn.experiments import backfill, group_row, history
from fcn.experiments.history import Snapshot
from fcn.experiments.leftovers import left_running
from fcn.runtime.errors import UserError
from fcn.tracking import identity, records, store
from fcn.tracking.records import STAGES
from fcn.tracking.store import Store


@dataclass
class Done:
    """The result of syncing one snapshot.

    row       name of the experiment's row
    added     stages that were added or completed
    missing   outs that DVC's cache does not have
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
    """A line on a snapshot that was skipped, on a run that was closed, or on a group."""

    text: str

    def __str__(self) -> str:
        return self.text


def sync(newest: int) -> Iterator[Done | Note]:
    """Updates the store from DVC experiments, the newest commits with results, and the workspace.

    newest   number of commits with results
    raises   UserError if the store cannot be reached or written
    """
    snapshots, skipped = history.known(newest)
    yield from map(Note, skipped)
    try:
        with store.locked():
            runs = Store()
            yield from map(Note, _close_dead(runs))
        for state in snapshots:
            if not any(stage in state.stages for stage in STAGES):
                yield Note(f"{state.label}: its dvc.lock is of other params or code; no row")
                continue
            with store.locked():
                try:
                    done: Done | Note = mirror(runs, state)
                except Exception as error:  # an invalid file, or a value that MLflow rejects: skip this snapshot
                    if not isinstance(error, UserError) and not store.is_refusal(error):
                        raise
                    done = Note(f"{state.label}: skipped, {store.reason(error)}")
            yield done
        for group, states in group_row.members(snapshots).items():
            with store.locked():
                added = group_row.fill(runs, group, states)
            if added:
                yield Note(f"group {group}: {', '.join(added)} added")
    except (OSError, UserError):
        raise
    except Exception as error:  # any error of the store, its driver or its network
        raise UserError(
            f"{store.safe_address()} cannot be updated ({store.reason(error)}); run `fcn sync` again to continue"
        ) from error


def summary(lines: Iterator[Done | Note]) -> str:
    """A one-line summary of `sync`."""
    done = list(lines)
    states = [line for line in done if isinstance(line, Done)]
    added, notes = sum(bool(state.added) for state in states), len(done) - len(states)
    text = f"MLflow shows {len(states)} experiments and commits, {added} of them updated now"
    return text + (f"; notes on {notes} others: `fcn sync`" if notes else "")


def _close_dead(runs: Store) -> Iterator[str]:
    for run in left_running(runs):
        if runs.get(run.info.run_id).info.status == "RUNNING":  # it may have ended since it was listed
            runs.close(run.info.run_id, "KILLED")
            what = "experiment" if records.is_row(run) else "run"
            yield f"{what} {run.info.run_name}: ended before it was finished, now KILLED"


def mirror(runs: Store, state: Snapshot) -> Done:
    """Adds what the store lacks of one snapshot. Needs the store's lock."""
    row, name = _row(runs, state)
    done = Done(state.label, name)
    if state.scores:  # logged first, with the finest net's mean IU at the head: MLflow's comparisons open on it
        finest = list(reversed(state.scores))
        names = sorted(finest, key=lambda name: not name.endswith(".mean_iu"))
        runs.scores(row, {name: state.scores[name] for name in names}, state.time)
    stages = {run.data.tags.get("stage"): run for run in _children(runs, row)}
    for stage in (stage for stage in STAGES if stage in state.stages):
        run = stages.get(stage)
        if run and run.info.status == "RUNNING":
            continue  # its own process logs it
        if backfill.fill(runs, row, run and run.info.run_id, state, state.stages[stage], done.missing):
            done.added.append(stage)
    tags = records.labels(state.experiment) | ({"fcn.commit": state.commit} if state.commit else {})
    existing = runs.get(row).data.tags
    runs.tag(row, {tag: text for tag, text in tags.items() if existing.get(tag) != text})
    _close(runs, row, state)
    return done


def _close(runs: Store, row: str, state: Snapshot) -> None:
    """Closes a row that no process is working on: FINISHED if its last stage is, KILLED if it was still RUNNING."""
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
    """The stages' runs of a row without failed ones; finished runs come last."""
    children = runs.find(f"tags.`mlflow.parentRunId` = '{row}'")
    not_failed = [run for run in children if run.info.status != "FAILED"]
    return sorted(not_failed, key=lambda run: bool(run.info.status == "FINISHED"))


def _row(runs: Store, state: Snapshot) -> tuple[str, str]:
    """Finds or creates the experiment's row; returns its id and name.

    A snapshot without a DVC experiment name also matches a row of a named experiment with the same params, code, graph
    and data, or a row with the same params, data and scores, because an edit of code that no stage reads is not a new
    experiment. A row with different scores belongs to another training.
    """
    experiment = state.experiment
    matches = [row for row in records.rows(runs, experiment) if _agrees(row, state)]
    if not matches and not state.name:
        matches = [row for row in records.named(runs, experiment) if _agrees(row, state)] or _same_results(runs, state)
    if matches:
        return str(matches[0].info.run_id), str(matches[0].info.run_name)
    tags = {"mlflow.source.git.commit": state.code} if state.code else {}
    row = records.new_row(runs, experiment, tags, state.time)
    return row, str(runs.get(row).info.run_name)


def _agrees(row: Any, state: Snapshot) -> bool:
    """Whether no score of a row differs from the snapshot's; scores that the row lacks are ignored."""
    logged = row.data.metrics
    return all(store.rounded(logged.get(name, value)) == store.rounded(value) for name, value in state.scores.items())


def _same_results(runs: Store, state: Snapshot) -> list[Any]:
    """Rows with the same params, data and scores, from any code."""
    if not state.scores:
        return []
    name, value = next(reversed(state.scores.items()))
    pairs = {key: str(value) for key, value in identity.flat(state.values).items()}
    data = {state.experiment.data}
    return [
        row
        for row in runs.find(f"metrics.`{name}` >= {max(0.0, value - store.RESOLUTION):.6f}")
        if records.is_row(row)
        and row.data.params == pairs
        and state.scores.keys() <= row.data.metrics.keys()
        and _agrees(row, state)
        and ({row.data.tags[records.DATA]} if records.DATA in row.data.tags else records.data(row)) == data
    ]
