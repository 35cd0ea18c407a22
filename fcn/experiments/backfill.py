"""Fills a stage's MLflow run from the stage's files: curves, data, digests of model files, figures."""

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

SCORED = ("evaluate", "report")  # stages that log the final scores
CURVES = ("train.csv", "val.csv")  # logged as curves, not as artifacts
CONTEXTS = {"train": "training", "val": "validation"}


def fill(runs: Store, row: str, run: str | None, state: Snapshot, stage: dvc_yaml.Stage, missing: list[str]) -> bool:
    """Adds a stage's run, or completes it.

    run      id of the existing run, if there is one
    missing  outs that DVC's cache does not have are appended to it
    returns  whether anything was added
    """
    new = run is None
    if run is None:
        tags = {"fcn.rebuilt": state.label} | ({"mlflow.source.git.commit": state.code} if state.code else {})
        run = records.child(runs, row, stage.name, stage.params, tags, state.time)
    existing = runs.get(run)
    for rows in curves(state, stage.name):
        before = dict(runs.last_steps(run))
        records.curves(runs, run, row, stage.name, rows)
        new |= before != runs.last_steps(run)
    for target in (existing, runs.get(row)):
        known = {(source.dataset.digest, tag.value) for source in target.inputs.dataset_inputs for tag in source.tags}
        for folder, role, digest, context in _data(state, stage):
            if (digest, context) not in known:
                runs.dataset(target.info.run_id, f"{state.experiment.dataset}-{role}", digest, folder, context)
    for indexes in _indexes(state, stage):
        runs.tag(row, records.images(*indexes))
    _models(runs, run, existing.data.tags, state, stage, missing)
    if stage.name in SCORED:
        runs.scores(run, state.scores, state.time)
    new |= _artifacts(runs, (run, row), state, stage.name, missing)
    if existing.info.status != "FINISHED":
        runs.close(run, "FINISHED", state.time)
        new = True
    return new


def curves(state: Snapshot, stage: str) -> Iterator[list[dict[str, float]]]:
    """The stage's CSV tables, as rows in the form in which the stage logs them."""
    for out in state.outs(stage):
        path = Path(out["path"])
        if path.name in CURVES and out["path"] in state.content:
            prefix = "val." if path.name == "val.csv" else ""
            rows = curve(state.content[out["path"]], f"{path} of {state.label}")
            yield [{"time": state.time} | {k if k == "iteration" else prefix + k: row[k] for k in row} for row in rows]


def curve(content: bytes, where: str) -> list[dict[str, float]]:
    """The rows of a CSV table of curves.

    raises   UserError if it is not a table of numbers with a column `iteration`
    """
    try:
        rows = [{key: float(line[key]) for key in line} for line in csv.DictReader(io.StringIO(content.decode()))]
        valid = all(0 <= row["iteration"] < 1 << 31 and not any(map(math.isinf, row.values())) for row in rows)
    except (ValueError, TypeError, KeyError, csv.Error):
        valid = False
    if not valid:
        raise UserError(f"{where} is not a table of numbers by iteration")
    return rows


def _data(state: Snapshot, stage: dvc_yaml.Stage) -> Iterator[tuple[str, str, str, str]]:
    """Folder, split, digest and MLflow context of the packed splits that a stage read."""
    for dep in stage.deps:
        digest = state.digest(dep)
        if digest and Path(dep).is_relative_to(history.PACKED):
            roles = ["val"] if stage.name == "evaluate" else list(CONTEXTS)
            for role in roles:
                yield dep, role, digest, "evaluation" if stage.name == "evaluate" else CONTEXTS[role]


def _indexes(state: Snapshot, stage: dvc_yaml.Stage) -> Iterator[tuple[bytes, bytes]]:
    """The indexes of train and val that a stage read, if DVC's cache has them."""
    for folder, digest in dict.fromkeys((folder, digest) for folder, _, digest, _ in _data(state, stage)):
        members = cache.expand(folder, digest)
        train, val = (cache.find(members.get(f"{folder}/{role}.csv", "")) for role in CONTEXTS)
        if train and val:
            yield train.read_bytes(), val.read_bytes()


def _models(
    runs: Store, run: str, tags: Mapping[str, str], state: Snapshot, stage: dvc_yaml.Stage, missing: list[str]
) -> None:
    """Tags a run with the digests of the model files that its stage wrote or scored, if the cache has the files."""
    from fcn.weights import model_file  # imports torch

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
        new_tags = {name: digest}
        if path in made:
            try:
                meta = model_file.facts(file)
            except UserError:  # damaged; `fcn doctor` reports it
                missing += [path] if path not in missing else []
                continue
            new_tags |= {"model.path": path} | ({"parent.sha256": meta.parent} if meta.parent else {})
            if meta.published:
                new_tags |= {f"published.{key}": value for key, value in asdict(meta.published).items() if value}
        runs.tag(run, new_tags)


def _artifacts(runs: Store, targets: tuple[str, str], state: Snapshot, stage: str, missing: list[str]) -> bool:
    """Logs figures, tables and the report to runs that have no artifact of that name; returns whether it logged any."""
    added = False
    for target in targets:
        existing = runs.artifacts(target) | runs.artifacts(target, "figures")
        for path, md5 in _outs(state, stage, missing):
            folder = "figures" if path.suffix == ".png" else None
            if path.name in CURVES or (f"{folder}/{path.name}" if folder else path.name) in existing:
                continue
            content = state.content.get(path.as_posix())
            if content is None or hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                cached = cache.find(md5)
                content = cached.read_bytes() if cached else None
            if content is None:
                missing += [path.as_posix()] if path.as_posix() not in missing else []
                continue
            with tempfile.TemporaryDirectory() as temporary:
                (Path(temporary) / path.name).write_bytes(content)
                runs.client.log_artifact(target, str(Path(temporary) / path.name), folder)
            added = True
    return added


def _outs(state: Snapshot, stage: str, missing: list[str]) -> Iterator[tuple[Path, str]]:
    """Path and md5 of each file below metrics/ that a stage wrote."""
    for out in state.outs(stage):
        if Path(out["path"]).parts[0] != "metrics":
            continue
        members = cache.expand(out["path"], out["md5"])
        if not members and out["path"] not in missing:
            missing.append(out["path"])
        for path, md5 in members.items():
            yield Path(path), md5
