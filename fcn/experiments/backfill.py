"""Fills a stage's MLflow run from the stage's files: curves, data, digests of model files, figures."""

import csv
import hashlib
import io
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn.experiments import history
from fcn.experiments.history import Snapshot
from fcn.io import images
from fcn.ladder import HELD_OUT, LADDER, NETS
from fcn.pipeline import cache, dvc_yaml
from fcn.runtime.errors import UserError
from fcn.tracking import datasets, identity, image_grid, logged_models, records
from fcn.tracking.datasets import Dataset
from fcn.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

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
    made, splits = (existing, runs.get(row)), list(_data(state, stage))
    for target in made:
        # Earlier versions logged the digest of the folder, for each split.
        known = {source.dataset.digest for source in target.inputs.dataset_inputs}
        lacking = [split for split in splits if not {split.digest, state.digest(split.folder)} & known]
        if lacking:
            runs.datasets(target.info.run_id, lacking)
    for indexes in _indexes(state, stage):
        runs.tag(row, records.images(*indexes))
    models = _models(runs, made, state, stage, splits, missing)
    if stage.name in SCORED:
        by_context = {split.context: split for split in splits}
        runs.scores(run, state.scores, state.time, models, by_context.get("evaluation"), by_context.get("test"))
    new |= _artifacts(runs, (run, row), state, stage.name, missing)
    new |= _images(runs, row, state, stage)
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


def _data(state: Snapshot, stage: dvc_yaml.Stage) -> Iterator[Dataset]:
    """The packed splits that a stage read. Without DVC's listing of their folder, each has the folder's digest."""
    for dep in stage.deps:
        if Path(dep).is_relative_to(history.PACKED):
            for role in ["val"] if stage.name == "evaluate" else CONTEXTS:
                context = "evaluation" if stage.name == "evaluate" else CONTEXTS[role]
                yield from _split(state, dep, role, context)
        elif dep == datasets.TEST and any(name.partition(".")[2].startswith(HELD_OUT) for name in state.scores):
            yield from _split(state, dep, "test", "test")


def _split(state: Snapshot, folder: str, role: str, context: str) -> Iterator[Dataset]:
    """A packed split that a stage read; nothing if dvc.lock does not have its folder."""
    if digest := state.digest(folder):
        members = _members(folder, digest)
        index = cache.find(members.get(f"{role}.csv", ""))
        yield Dataset(
            f"{state.experiment.dataset}-{role}",
            datasets.digest(members, role) if members else digest,
            folder,
            context,
            datasets.profile(index.read_bytes()) if index else "",
        )


def _members(folder: str, digest: str) -> dict[str, str]:
    """md5 of each file of a folder, by name; empty if DVC's cache does not have the listing."""
    return {path.removeprefix(f"{folder}/"): md5 for path, md5 in cache.expand(folder, digest).items()}


def _indexes(state: Snapshot, stage: dvc_yaml.Stage) -> Iterator[tuple[bytes, bytes]]:
    """The indexes of train and val that a stage read, if DVC's cache has them."""
    for folder in dict.fromkeys(split.folder for split in _data(state, stage)):
        members = _members(folder, state.digest(folder) or "")
        train, val = (cache.find(members.get(f"{role}.csv", "")) for role in CONTEXTS)
        if train and val:
            yield train.read_bytes(), val.read_bytes()


def _models(
    runs: Store,
    made: tuple[Any, Any],
    state: Snapshot,
    stage: dvc_yaml.Stage,
    splits: Sequence[Dataset],
    missing: list[str],
) -> "dict[str, LoggedModel]":
    """Logs the nets that a stage wrote, if the cache has their files, and tags its run with the digests of the files.

    made      the stage's run and its row
    returns   the nets that the stage scored, by name, as far as the store has them
    """
    run, tags = made[0].info.run_id, made[0].data.tags
    written = [out["path"] for out in state.outs(stage.name) if out["path"].endswith(".safetensors")]
    scored = [dep for dep in stage.deps if dep.endswith(".safetensors")] if stage.name == "evaluate" else []
    models = {}
    for path in written + scored:
        name = "model.sha256" if path in written else f"{Path(path).stem}.sha256"
        digest = tags.get(name) or _tag_model(runs, run, name, path, state, missing, meta=path in written)
        if not digest or Path(path).stem not in NETS:
            continue
        if path in written:
            model_tags = records.model_tags(stage.name, path, splits)
            logged_models.add(runs, Path(path).stem, digest, model_tags, identity.flat(stage.params), made)
        elif model := logged_models.find(runs, Path(path).stem, digest):
            models[Path(path).stem] = model
    known = {source.model_id for source in made[0].inputs.model_inputs}
    logged_models.evaluated(runs, run, {name: model for name, model in models.items() if model.model_id not in known})
    return models


def _tag_model(
    runs: Store, run: str, name: str, path: str, state: Snapshot, missing: list[str], *, meta: bool
) -> str | None:
    """Tags a run with the sha256 of a model file, and with facts of its metadata; returns the sha256.

    None if the cache does not have the file, or a damaged one.
    """
    from fcn.weights import model_file  # imports torch

    md5 = state.digest(path) or ""
    digest, file = cache.sha256(md5), cache.find(md5)
    if digest is None or file is None:
        missing += [path] if path not in missing else []
        return None
    tags = {name: digest}
    if meta:
        try:
            facts = model_file.facts(file)
        except UserError:  # damaged; `fcn doctor` reports it
            missing += [path] if path not in missing else []
            return None
        tags |= {"model.path": path} | ({"parent.sha256": facts.parent} if facts.parent else {})
        if facts.published:
            tags |= {f"published.{key}": value for key, value in asdict(facts.published).items() if value}
    runs.tag(run, tags)
    return digest


def _images(runs: Store, row: str, state: Snapshot, stage: dvc_yaml.Stage) -> bool:
    """Logs the previews of a rung for MLflow's image grid, cut from their picture; returns whether it logged any."""
    net = next((net for net in LADDER if net.stage == stage.name), None)
    out = f"metrics/figures/validation_{net.name}.png" if net else ""
    md5, indexes = state.digest(out), list(_indexes(state, stage)) if net else []
    picture = cache.find(md5) if md5 else None
    if net is None or picture is None or not indexes:
        return False
    from fcn.rungs import previews  # imports torch

    try:
        table = list(csv.DictReader(io.StringIO(indexes[0][1].decode())))
        chosen = [table[i] for i in previews.chosen(len(table))]
        sizes = [(int(image["height"]), int(image["width"])) for image in chosen]
        layout = previews.layout([image["id"] for image in chosen], sizes)
        rung = dvc_yaml.lookup(state.values, net.section)
        steps = previews.preview_steps(rung["iterations"], rung["validate_every"])
        cut = previews.columns(images.load(picture, False), layout, net.name, steps)
    except (UserError, ValueError, TypeError, KeyError, IndexError, ZeroDivisionError):
        return False  # untrusted files, or those of an older version
    known = runs.artifacts(row, image_grid.FOLDER)
    lacking = {at: image for at, image in cut.items() if not image_grid.names(*at) <= known}
    if lacking:
        image_grid.add(runs, row, lacking)
    return bool(lacking)


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
