"""How experiments are recorded in MLflow: a row (parent run) per experiment, with a child run per stage.

The stages write the same records while they run as `fcn sync` writes from files. A row holds one training: if the same
experiment is trained again with different bits, for example with another number of threads, it gets a new row.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from fcn.runtime import locks, machine
from fcn.runtime.commands import git
from fcn.tracking import groups, identity
from fcn.tracking.datasets import Dataset
from fcn.tracking.identity import Experiment, flat
from fcn.tracking.store import Rows, Store

STAGES = ("train", "finetune16s", "finetune8s", "evaluate", "report")  # stages with a run; the last finishes the row
KEY, BASE, DATA = "fcn.key", "fcn.base", "fcn.data.split"  # tags of a row: see fcn.tracking.identity.Experiment
OPENED, OWNER = "fcn.opened", "fcn.dvc"  # tags of a row: when its last stage started, and the DVC process that ran it
CLOCK_STEP = 5.0  # seconds that the system clock may be adjusted by; a reused process id is hardly ever as young
ROW_CURVES = ("iteration", "time", "loss", "val.mean_iu")  # the curves that are also logged on the row


def curves(runs: Store, child: str, parent: str, stage: str, rows: Rows) -> None:
    """Logs points of curves on a stage's run, and on the experiment's row those used to compare experiments."""
    runs.points(child, rows)
    compared = [{key: value for key, value in row.items() if key in ROW_CURVES} for row in rows]
    runs.points(parent, compared, f"{stage}/")


def rows(runs: Store, experiment: Experiment) -> list[Any]:
    """The experiment's rows, most recently used first."""
    matches = runs.find(f"tags.`{KEY}` = '{experiment.key}'") or _upgrade(runs, KEY, experiment)
    return sorted(matches, key=lambda row: int(row.data.tags.get(OPENED, 0)), reverse=True)


def named(runs: Store, experiment: Experiment) -> list[Any]:
    """Rows with the same params, code and data, under any DVC experiment name."""
    return runs.find(f"tags.`{BASE}` = '{experiment.base}'") or _upgrade(runs, BASE, experiment)


def _upgrade(runs: Store, tag: str, experiment: Experiment) -> list[Any]:
    """Rows written before the key included the data, if their stages read only this data. Updates their keys."""
    without_data = replace(experiment, data=None)
    condition = f"tags.`{tag}` = '{without_data.key if tag == KEY else without_data.base}'"
    old_rows = [row for row in runs.find(condition) if DATA not in row.data.tags and data(row) == {experiment.data}]
    for row in old_rows:
        renamed = replace(experiment, name=row.data.tags.get("dvc.experiment"))
        runs.tag(row.info.run_id, {KEY: renamed.key, BASE: renamed.base, DATA: str(renamed.data)})
    return old_rows


def is_row(run: Any) -> bool:
    """Whether a run is an experiment's row, not a stage's run, a group's row or a run of the user."""
    return KEY in run.data.tags


def data(row: Any) -> set[str]:
    """Digests of the data that the stages of a row read."""
    return {source.dataset.digest for source in row.inputs.dataset_inputs}


def children(runs: Store, row: str, stage: str) -> list[Any]:
    """The runs of one stage in a row, newest first."""
    return runs.find(f"tags.`mlflow.parentRunId` = '{row}' and tags.stage = '{stage}'")


def row(runs: Store, experiment: Experiment, stage: str, fingerprint: str, tags: Mapping[str, str]) -> str:
    """Finds or creates the row that a stage's run belongs to.

    This is the row in which the stage ran with this fingerprint. If there is none, it is the most recently used row,
    unless the stage ran there with another fingerprint.
    """
    existing = [str(row.info.run_id) for row in rows(runs, experiment)]
    ran = {row: {run.data.tags.get("fingerprint", "") for run in children(runs, row, stage)} for row in existing}
    for row in existing:
        if fingerprint in ran[row]:
            return row
    if existing and ran[existing[0]] <= {""}:  # the stage has not run there, or without a known fingerprint
        return existing[0]
    return new_row(runs, experiment, tags)


def new_row(runs: Store, experiment: Experiment, tags: Mapping[str, str], began: int | None = None) -> str:
    """Creates a row with all params."""
    key, name = experiment.key, experiment.name
    row_tags = {KEY: key, BASE: experiment.base, "mlflow.source.name": identity.GRAPH, **labels(experiment)}
    row_tags |= {"mlflow.source.type": "PROJECT"} | ({"dvc.experiment": name} if name else {})
    row_tags |= ({DATA: experiment.data} if experiment.data else {}) | groups.parent(runs, name)
    count = len(runs.find(f"tags.`{KEY}` = '{key}'"))
    title = (name or f"{experiment.dataset}-{key[:7]}") + (f"-{count + 1}" if count else "")
    return runs.create(title, {**row_tags, **tags}, flat(experiment.values), began)


def labels(experiment: Experiment) -> dict[str, str]:
    """Tags of a row that the runs table shows: the data set's name, and the training steps of the three nets."""
    pairs = flat(experiment.values)
    steps = [pairs.get(f"{section}.iterations") for section in ("train", "finetune.fcn16s", "finetune.fcn8s")]
    return {"data": experiment.dataset, "steps": " + ".join(str(count) for count in steps if count is not None)}


def images(train: bytes, val: bytes) -> dict[str, str]:
    """A tag of a row that the runs table shows: how many images its nets were trained and scored on.

    train, val   the indexes of the packed splits, CSV
    """
    return {"images": " + ".join(str(index.count(b"\n") - 1) for index in (train, val))}


def model_tags(stage: str, path: str, splits: Sequence[Dataset]) -> dict[str, str]:
    """Tags of the model of a net: where it was made, and the digests of the splits that its stage read."""
    return {"stage": stage, "model.path": path} | {f"data.{split.context}": split.digest for split in splits}


def owner() -> str:
    """The DVC process that runs this one, as the value of the OWNER tag; empty if there is none."""
    process = machine.dvc()
    return f"{process.pid} {process.create_time():.0f}" if process else ""


def is_owned(row: Any) -> bool:
    """Whether the DVC process that last ran a stage of a row is still running: it may be between two stages."""
    pid, _, started = row.data.tags.get(OWNER, "").partition(" ")
    try:
        process = psutil.Process(int(pid))
        return machine.is_running(process) and abs(process.create_time() - float(started)) < CLOCK_STEP
    except (ValueError, psutil.Error):
        return False


def child(
    runs: Store,
    parent: str,
    stage: str,
    declared: Mapping[str, object],
    tags: Mapping[str, str],
    began: int | None = None,
) -> str:
    """Creates a child run for a stage."""
    name = runs.client.get_run(parent).data.tags.get("dvc.experiment")
    child_tags = {"stage": stage, "mlflow.parentRunId": parent, "mlflow.source.name": f"{identity.GRAPH}:{stage}"}
    child_tags |= {"mlflow.source.type": "PROJECT"} | ({"dvc.experiment": name} if name else {})
    return runs.create(stage, {**child_tags, **tags}, flat(declared), began)


def lock_file(run: str) -> Path:
    """The lock that a process holds while it logs a run. If it is free, that process was killed."""
    return locks.named(f"run-{run}")


def origin() -> dict[str, str]:
    """A tag with the commit of the code; not the remote's address, which may contain a token."""
    commit = git("rev-parse", "HEAD")
    return {"mlflow.source.git.commit": commit.decode().strip()} if commit else {}


def environment() -> dict[str, str]:
    """Tags with host, processor and package versions."""
    facts = {"host": platform.node()} | machine.facts()
    versions = {f"version.{package}": version for package, version in machine.versions().items()}
    return {f"fcn.{key}": str(value) for key, value in (facts | versions).items()}
