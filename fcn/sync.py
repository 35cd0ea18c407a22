"""Makes MLflow show every finished experiment: what DVC skipped, restored or ran elsewhere is told from the files."""

import csv
import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcn import cache, files, identity, pipeline, states, store, tracking
from fcn.errors import UserError
from fcn.leftovers import left_running
from fcn.states import State
from fcn.store import Store

TRACKED = ("train", "finetune16s", "finetune8s", "evaluate", "report")  # stages that have a run
SHOWN = ("evaluate", "report")  # those whose outs under metrics/ are artifacts
CONTEXTS = {"train": "training", "val": "validation"}


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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{store.address()} cannot be filled ({reason}); `fcn sync` again goes on") from error


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
        if _fill(runs, row, run and run.info.run_id, state, state.stages[stage], done):
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
    row = tracking.new_row(runs, state.values, state.digests, state.name, tags, state.time)
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


def _fill(runs: Store, row: str, run: str | None, state: State, stage: pipeline.Stage, done: Done) -> bool:
    """Adds a stage's run, or what it lacks; says whether anything was added."""
    new = run is None
    if run is None:
        tags = {"fcn.rebuilt": state.label} | ({"mlflow.source.git.commit": state.code} if state.code else {})
        run = tracking.child(runs, row, stage.name, stage.params, tags, state.time)
    had = runs.get(run)
    for rows in _curves(state, stage.name):
        before = dict(runs.last(run))
        tracking.curves(runs, run, row, stage.name, rows)
        new |= before != runs.last(run)
    for target in (had, runs.get(row)):
        known = {source.dataset.name for source in target.inputs.dataset_inputs}
        for folder, role, digest, context in _data(state, stage):
            if (split := f"{Path(folder).name}-{role}") not in known:
                runs.dataset(target.info.run_id, split, digest, folder, context)
    _models(runs, run, had.data.tags, state, stage, done)
    if stage.name in SHOWN:
        runs.scores(run, state.scores, state.time)
        new |= _artifacts(runs, (run, row), state, stage.name, done)
    if had.info.status != "FINISHED":
        runs.close(run, "FINISHED", state.time)
        new = True
    return new


def _curves(state: State, stage: str) -> Iterator[list[dict[str, float]]]:
    """The stage's tables as its own process logs them."""
    for out in state.outs(stage):
        path = Path(out["path"])
        if path.name in ("train.csv", "val.csv") and out["path"] in state.content:
            prefix = "val." if path.name == "val.csv" else ""
            lines = csv.DictReader(io.StringIO(state.content[out["path"]].decode()))
            yield [
                {"time": state.time} | {key if key == "iteration" else prefix + key: float(line[key]) for key in line}
                for line in lines
            ]


def _data(state: State, stage: pipeline.Stage) -> Iterator[tuple[str, str, str, str]]:
    """Folder, split, digest and context of the packed splits that a stage read."""
    for dep in stage.deps:
        digest = state.digest(dep)
        if digest and dep.startswith("data/resized/"):
            roles = ["val"] if stage.name == "evaluate" else list(CONTEXTS)
            for role in roles:
                yield dep, role, digest, "evaluation" if stage.name == "evaluate" else CONTEXTS[role]


def _models(runs: Store, run: str, tags: Mapping[str, str], state: State, stage: pipeline.Stage, done: Done) -> None:
    """Digests of the model files that a stage made or scored, as far as the files are at hand."""
    made = [out["path"] for out in state.outs(stage.name) if out["path"].endswith(".safetensors")]
    scored = [dep for dep in stage.deps if dep.endswith(".safetensors")] if stage.name == "evaluate" else []
    for path in made + scored:
        name = "model.sha256" if path in made else f"{Path(path).stem}.sha256"
        md5 = state.digest(path) or ""
        digest, file = cache.sha256(md5), cache.find(md5)
        if name in tags:
            continue
        if digest is None or file is None:
            done.missing += [path] if path not in done.missing else []
            continue
        found = {name: digest}
        if path in made:
            parent = files.facts(file, "fcn")["parent"]
            found |= {"model.path": path} | ({"parent.sha256": parent} if parent else {})
        runs.tag(run, found)


def _artifacts(runs: Store, targets: tuple[str, str], state: State, stage: str, done: Done) -> bool:
    """Pictures, tables and the report, where a run has none of that name."""
    added = False
    for target in targets:
        have = runs.artifacts(target) | runs.artifacts(target, "figures")
        for out in state.outs(stage):
            path = Path(out["path"])
            folder = "figures" if path.suffix == ".png" else None
            if path.parts[0] != "metrics" or (f"{folder}/{path.name}" if folder else path.name) in have:
                continue
            content = state.content.get(out["path"])
            if content is None or hashlib.md5(content, usedforsecurity=False).hexdigest() != out["md5"]:
                kept = cache.find(out["md5"])
                content = kept.read_bytes() if kept else None
            if content is None:
                done.missing += [out["path"]] if out["path"] not in done.missing else []
                continue
            with tempfile.TemporaryDirectory() as place:
                (Path(place) / path.name).write_bytes(content)
                runs.client.log_artifact(target, str(Path(place) / path.name), folder)
            added = True
    return added
