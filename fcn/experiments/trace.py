"""`fcn trace`: the provenance of a model file, from files and dvc.lock first, then from MLflow."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcn.experiments import history
from fcn.experiments.history import Snapshot
from fcn.pipeline import cache
from fcn.runtime import files
from fcn.runtime.errors import UserError, printable
from fcn.tracking import identity, records, store
from fcn.tracking.store import Store
from fcn.weights import model_file

WEIGHTS = Path("data/weights")


@dataclass
class Model:
    """A model file and the copies of it.

    path     path of one copy
    meta     its metadata
    places   its path in the workspace, and the labels of the snapshots whose dvc.lock has it
    state    one of these snapshots, a commit if there is one
    stage    the stage that wrote it, if a dvc.lock says so
    """

    sha256: str
    name: str
    path: Path
    meta: model_file.Meta
    places: list[str] = field(default_factory=list)
    state: Snapshot | None = None
    stage: str | None = None


def trace(what: str, newest: int) -> Iterator[str]:
    """Yields lines on a model and on its parents, up to the backbone.

    what     a model file, its sha256 or the beginning of it, or the id of an MLflow run
    newest   number of commits with results to search
    raises   UserError if `what` matches no model, or more than one
    """
    runs, problem = store.opened()
    models, skipped = _models(newest)
    yield from skipped
    digest = _digest(what, models, runs)
    while digest:
        model = models.get(digest)
        yield from _describe(digest, model, models, runs, problem)
        digest = (model.meta.parent if model else _parent(digest, runs)) or ""


def _models(newest: int) -> tuple[dict[str, Model], list[str]]:
    """The model files of the workspace and of DVC's cache, by digest; and one line for each skipped snapshot."""
    models: dict[str, Model] = {}
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        _add(models, path, path.as_posix(), path.name)
    snapshots, skipped = history.known(newest)
    for state in snapshots:
        outs = [(stage, out) for stage in state.lock for out in state.outs(stage)]
        for stage, out in outs:
            cached = cache.find(out["md5"]) if out["path"].endswith(".safetensors") else None
            model = _add(models, cached, state.label, Path(out["path"]).name) if cached else None
            if model and (model.state is None or (state.commit and not state.name)):  # prefer a commit
                model.state, model.stage = state, stage
    return models, skipped


def _add(models: dict[str, Model], path: Path, place: str, name: str) -> Model | None:
    try:
        meta = model_file.facts(path)
    except UserError:
        return None  # damaged, or not a model file of fcn
    digest = files.sha256(path)
    model = models.setdefault(digest, Model(digest, name, path, meta))
    if place not in model.places:
        model.places.append(place)
    return model


def _digest(what: str, models: dict[str, Model], runs: Store | None) -> str:
    """The sha256 of the model that `what` refers to."""
    path = Path(what)
    if path.is_file():
        model_file.load(path)  # raises if the file is damaged
        model = _add(models, path, what, path.name)
        assert model
        return model.sha256
    rows = [run for run in runs.find() if records.is_row(run)] if runs else []
    named = [row for row in rows if row.info.run_name == what]
    if runs and len(named) == 1:
        return _model_of_run(named[0], runs)
    if not re.fullmatch(r"[0-9a-f]{4,64}", what):
        raise UserError(
            f"{what} is not a file, not a sha256 (at least 4 digits, 0-9 and a-f) and not the name or id of a run"
        )
    matches = {digest for digest in models if digest.startswith(what)}
    if runs:
        tags = [run.data.tags.get("model.sha256", "") for run in runs.find("tags.`model.sha256` LIKE '%'")]
        matches |= {digest for digest in tags if digest.startswith(what)}
        run = runs.get(what) if len(what) == 32 and not matches else None
        matches |= {_model_of_run(run, runs)} if run else set()
    if not matches:
        note = "" if runs else ", and MLflow cannot be read"
        raise UserError(f"no model file and no run here matches {what}{note}")
    if len(matches) > 1:
        raise UserError(f"{what} is ambiguous; it matches {', '.join(sorted(d[:12] for d in matches))}")
    return matches.pop()


def _model_of_run(run: Any, runs: Store) -> str:
    """The model that a run wrote; for a row or its evaluation, the finest net."""
    family = [run, *reversed(runs.find(f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"))]
    tags = [family.data.tags for family in family]
    digests = [tag["model.sha256"] for tag in tags if "model.sha256" in tag]
    digests += [tag["fcn8s.sha256"] for tag in tags if "fcn8s.sha256" in tag]
    if not digests:
        raise UserError(f"run {run.info.run_id} has no model; `fcn sync` adds what it may lack")
    parents = {tag.get("parent.sha256") for tag in tags}
    return str(next((digest for digest in digests if digest not in parents), digests[-1]))


def _parent(digest: str, runs: Store | None) -> str | None:
    matches = runs.find(f"tags.`model.sha256` = '{digest}'") if runs else []
    return matches[0].data.tags.get("parent.sha256") if matches else None


def _describe(
    digest: str, model: Model | None, models: dict[str, Model], runs: Store | None, problem: str
) -> Iterator[str]:
    yield printable(model.name) if model else "a model without a file here"
    yield _line("sha256", digest)
    if model:
        yield _line("files", ", ".join(model.places))
        yield _line("stage", model.stage or "unknown; no dvc.lock of this checkout names it")
        yield from _damage(model)
        params = identity.flat(model.meta.params)
        yield _line("params", ", ".join(f"{key} {value}" for key, value in params.items()) or "none")
        yield from _result(model)
        yield _line("parent", model.meta.parent or _published(model.meta) or "none: the chain begins here")
        children = [f"{other.name} {other.sha256[:12]}" for other in models.values() if other.meta.parent == digest]
        yield _line("children", ", ".join(children) or "none here")
    if problem:
        yield _line("mlflow", problem)
    if runs:
        matches = runs.find(f"tags.`model.sha256` = '{digest}'")
        for run in matches:
            row = runs.get(run.data.tags.get("mlflow.parentRunId", ""))
            of = f" of {row.info.run_name}" if row else ""
            yield _line("mlflow", f"run {run.info.run_id}, {run.info.run_name}{of}, {run.info.status}")
        if not matches:
            expected = model is not None and model.stage != "backbone"
            yield _line("mlflow", "no run has it; `fcn sync` adds it" if expected else "no run, as for every backbone")


def _damage(model: Model) -> Iterator[str]:
    try:
        model_file.load(model.path)
    except UserError as error:
        yield _line("damaged", str(error))


def _published(meta: model_file.Meta) -> str:
    """The published file that a model was initialized from; empty if none."""
    if meta.published is None:
        return ""
    digest = f", sha256 {meta.published.sha256}" if meta.published.sha256 else ""
    return f"{meta.published.name}, published by others{digest}"


def _result(model: Model) -> Iterator[str]:
    """Data, scores and commit of the snapshot that has the model."""
    if model.state is None or model.stage is None:
        return
    state, net = model.state, model.name.removesuffix(".safetensors")
    for dep in state.lock[model.stage].get("deps", []):
        if Path(dep["path"]).is_relative_to(history.PACKED):
            yield _line("data", f"{dep['path']}, md5 {dep['md5']} in dvc.lock")
    if f"{net}.mean_iu" in state.scores:
        yield _line("scores", f"mean IU {state.scores[f'{net}.mean_iu']:.4f} on val")
    where = f"{state.commit} ({state.label})" if state.name else state.commit
    yield _line("git", where or "not committed")


def _line(name: str, value: str) -> str:
    return f"  {name:9} {printable(value)}"
