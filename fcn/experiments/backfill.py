"""What the files of one stage say of it, put into its run in the store: curves, data, model files, pictures."""

import csv
import hashlib
import io
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from fcn.experiments import history
from fcn.experiments.history import Snapshot
from fcn.pipeline import cache, dvc_yaml
from fcn.runtime.errors import UserError
from fcn.tracking import records
from fcn.tracking.store import Store

SHOWN = ("evaluate", "report")  # stages that log the final scores
CURVES = ("train.csv", "val.csv")  # which become curves, and no artifacts
CONTEXTS = {"train": "training", "val": "validation"}


def fill(runs: Store, row: str, run: str | None, state: Snapshot, stage: dvc_yaml.Stage, missing: list[str]) -> bool:
    """Adds a stage's run, or what it lacks; says whether anything was added.

    run      its id, if there is one
    missing  grows by the outs that no cache here has
    """
    new = run is None
    if run is None:
        tags = {"fcn.rebuilt": state.label} | ({"mlflow.source.git.commit": state.code} if state.code else {})
        run = records.child(runs, row, stage.name, stage.params, tags, state.time)
    had = runs.get(run)
    for rows in curves(state, stage.name):
        before = dict(runs.last_steps(run))
        records.curves(runs, run, row, stage.name, rows)
        new |= before != runs.last_steps(run)
    for target in (had, runs.get(row)):
        known = {(source.dataset.digest, tag.value) for source in target.inputs.dataset_inputs for tag in source.tags}
        for folder, role, digest, context in _data(state, stage):
            if (digest, context) not in known:
                runs.dataset(target.info.run_id, f"{state.experiment.dataset}-{role}", digest, folder, context)
    _models(runs, run, had.data.tags, state, stage, missing)
    if stage.name in SHOWN:
        runs.scores(run, state.scores, state.time)
    new |= _artifacts(runs, (run, row), state, stage.name, missing)
    if had.info.status != "FINISHED":
        runs.close(run, "FINISHED", state.time)
        new = True
    return new


def curves(state: Snapshot, stage: str) -> Iterator[list[dict[str, float]]]:
    """The stage's tables as its own process logs them."""
    for out in state.outs(stage):
        path = Path(out["path"])
        if path.name in CURVES and out["path"] in state.content:
            prefix = "val." if path.name == "val.csv" else ""
            rows = curve(state.content[out["path"]], f"{path} of {state.label}")
            yield [{"time": state.time} | {k if k == "iteration" else prefix + k: row[k] for k in row} for row in rows]


def curve(content: bytes, where: str) -> list[dict[str, float]]:
    """The rows of a curve's table.

    raises   UserError if it is no table of numbers by iteration
    """
    try:
        rows = [{key: float(line[key]) for key in line} for line in csv.DictReader(io.StringIO(content.decode()))]
        sound = all(0 <= row["iteration"] < 1 << 31 and not any(map(math.isinf, row.values())) for row in rows)
    except (ValueError, TypeError, KeyError, csv.Error):
        sound = False
    if not sound:
        raise UserError(f"{where}: no table of numbers by iteration")
    return rows


def _data(state: Snapshot, stage: dvc_yaml.Stage) -> Iterator[tuple[str, str, str, str]]:
    """Folder, split, digest and context of the packed splits that a stage read."""
    for dep in stage.deps:
        digest = state.digest(dep)
        if digest and Path(dep).is_relative_to(history.PACKED):
            roles = ["val"] if stage.name == "evaluate" else list(CONTEXTS)
            for role in roles:
                yield dep, role, digest, "evaluation" if stage.name == "evaluate" else CONTEXTS[role]


def _models(
    runs: Store, run: str, tags: Mapping[str, str], state: Snapshot, stage: dvc_yaml.Stage, missing: list[str]
) -> None:
    """Digests of the model files that a stage made or scored, as far as the files are at hand."""
    from fcn.models import weights  # and with it torch

    made = [out["path"] for out in state.outs(stage.name) if out["path"].endswith(".safetensors")]
    scored = [dep for dep in stage.deps if dep.endswith(".safetensors")] if stage.name == "evaluate" else []
    for path in made + scored:
        name = "model.sha256" if path in made else f"{Path(path).stem}.sha256"
        md5 = state.digest(path) or ""
        digest, file = cache.sha256(md5), cache.find(md5)
        if name in tags:
            continue
        if digest is None or file is None:
            missing += [path] if path not in missing else []
            continue
        found = {name: digest}
        if path in made:
            try:
                meta = weights.facts(file)
            except UserError:  # damaged; `fcn doctor` says so
                missing += [path] if path not in missing else []
                continue
            found |= {"model.path": path} | ({"parent.sha256": meta.parent} if meta.parent else {})
            if meta.published:
                found |= {f"published.{key}": value for key, value in asdict(meta.published).items() if value}
        runs.tag(run, found)


def _artifacts(runs: Store, targets: tuple[str, str], state: Snapshot, stage: str, missing: list[str]) -> bool:
    """Pictures, tables and the report, where a run has none of that name."""
    added = False
    for target in targets:
        have = runs.artifacts(target) | runs.artifacts(target, "figures")
        for path, md5 in _outs(state, stage, missing):
            folder = "figures" if path.suffix == ".png" else None
            if path.name in CURVES or (f"{folder}/{path.name}" if folder else path.name) in have:
                continue
            content = state.content.get(path.as_posix())
            if content is None or hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                kept = cache.find(md5)
                content = kept.read_bytes() if kept else None
            if content is None:
                missing += [path.as_posix()] if path.as_posix() not in missing else []
                continue
            with tempfile.TemporaryDirectory() as place:
                (Path(place) / path.name).write_bytes(content)
                runs.client.log_artifact(target, str(Path(place) / path.name), folder)
            added = True
    return added


def _outs(state: Snapshot, stage: str, missing: list[str]) -> Iterator[tuple[Path, str]]:
    """Path and md5 of each file below metrics/ that a stage made."""
    for out in state.outs(stage):
        if Path(out["path"]).parts[0] != "metrics":
            continue
        found = cache.expand(out["path"], out["md5"])
        if not found and out["path"] not in missing:
            missing.append(out["path"])
        for path, md5 in found.items():
            yield Path(path), md5
