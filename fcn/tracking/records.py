"""How experiments are recorded in the store: a row for the whole, a child run for each stage below it.

The same whether a stage's own process writes them or `fcn sync` does, from files. A row holds one training: the same
experiment trained again with other bits, as with another number of threads, gets a row of its own.
"""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from fcn.runtime import machine
from fcn.tracking import identity
from fcn.tracking.identity import Experiment, flat
from fcn.tracking.store import Rows, Store

STAGES = ("train", "finetune16s", "finetune8s", "evaluate", "report")  # those that have a run; the last ends the row
KEY, BASE, DATA = "fcn.key", "fcn.base", "fcn.data.split"  # tags of a row: see fcn.tracking.identity.Experiment
OPENED, OWNER = "fcn.opened", "fcn.dvc"  # when a stage last began, and the DVC that ran it
COMPARED = ("iteration", "time", "loss", "val.mean_iu")


def curves(runs: Store, child: str, parent: str, stage: str, rows: Rows) -> None:
    """Points of curves on a stage's run; on the experiment's row those by which two experiments are compared."""
    runs.points(child, rows)
    chosen = [{key: value for key, value in row.items() if key in COMPARED} for row in rows]
    runs.points(parent, chosen, f"{stage}/")


def rows(runs: Store, experiment: Experiment) -> list[Any]:
    """The experiment's rows, the one that a stage last ran in first."""
    found = runs.find(f"tags.`{KEY}` = '{experiment.key}'") or _older(runs, KEY, experiment)
    return sorted(found, key=lambda row: int(row.data.tags.get(OPENED, 0)), reverse=True)


def named(runs: Store, experiment: Experiment) -> list[Any]:
    """Rows of the same params, code and data, whatever DVC called them."""
    return runs.find(f"tags.`{BASE}` = '{experiment.base}'") or _older(runs, BASE, experiment)


def _older(runs: Store, tag: str, experiment: Experiment) -> list[Any]:
    """Rows from before data were part of the key, whose stages read these data and no other: they get today's key."""
    plain = replace(experiment, data=None)
    condition = f"tags.`{tag}` = '{plain.key if tag == KEY else plain.base}'"
    found = [row for row in runs.find(condition) if DATA not in row.data.tags and data(row) == {experiment.data}]
    for row in found:
        own = replace(experiment, name=row.data.tags.get("dvc.experiment"))
        runs.tag(row.info.run_id, {KEY: own.key, BASE: own.base, DATA: str(own.data)})
    return found


def data(row: Any) -> set[str]:
    """Digests of the data that a row's stages read."""
    return {source.dataset.digest for source in row.inputs.dataset_inputs}


def children(runs: Store, row: str, stage: str) -> list[Any]:
    """The runs of one stage in a row, newest first."""
    return runs.find(f"tags.`mlflow.parentRunId` = '{row}' and tags.stage = '{stage}'")


def row(runs: Store, experiment: Experiment, stage: str, fingerprint: str, tags: Mapping[str, str]) -> str:
    """The row that a stage's run belongs to, found or made.

    That in which the stage has run with this fingerprint; else the last one, unless it has run there with another.
    """
    found = [str(row.info.run_id) for row in rows(runs, experiment)]
    ran = {row: {run.data.tags.get("fingerprint", "") for run in children(runs, row, stage)} for row in found}
    for row in found:
        if fingerprint in ran[row]:
            return row
    if found and ran[found[0]] <= {""}:  # not at all, or nobody knows how
        return found[0]
    return new_row(runs, experiment, tags)


def new_row(runs: Store, experiment: Experiment, tags: Mapping[str, str], began: int | None = None) -> str:
    """A new row with all params."""
    key, name = experiment.key, experiment.name
    own = {KEY: key, BASE: experiment.base, "mlflow.source.name": identity.GRAPH, **labels(experiment)}
    own |= {"mlflow.source.type": "PROJECT"} | ({"dvc.experiment": name} if name else {})
    own |= {DATA: experiment.data} if experiment.data else {}
    before = len(runs.find(f"tags.`{KEY}` = '{key}'"))
    title = (name or f"{experiment.dataset}-{key[:7]}") + (f"-{before + 1}" if before else "")
    return runs.create(title, {**own, **tags}, flat(experiment.values), began)


def labels(experiment: Experiment) -> dict[str, str]:
    """Tags of a row for the eye: the name of the data, and the steps of the three nets."""
    pairs = flat(experiment.values)
    steps = [pairs.get(f"{section}.iterations") for section in ("train", "finetune.fcn16s", "finetune.fcn8s")]
    return {"data": experiment.dataset, "steps": " + ".join(str(count) for count in steps if count is not None)}


def owner() -> str:
    """The DVC that runs this process, for a tag of the row; empty if none does."""
    process = machine.dvc()
    return f"{process.pid} {process.create_time():.0f}" if process else ""


def is_owned(row: Any) -> bool:
    """Whether the DVC that last ran a stage of a row still runs: it may be between two stages."""
    number, _, began = row.data.tags.get(OWNER, "").partition(" ")
    try:
        process = psutil.Process(int(number))
        return machine.is_running(process) and abs(process.create_time() - float(began)) < 60
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
    """A new child run for a stage."""
    name = runs.client.get_run(parent).data.tags.get("dvc.experiment")
    own = {"stage": stage, "mlflow.parentRunId": parent, "mlflow.source.name": f"{identity.GRAPH}:{stage}"}
    own |= {"mlflow.source.type": "PROJECT"} | ({"dvc.experiment": name} if name else {})
    return runs.create(stage, {**own, **tags}, flat(declared), began)


def lock_file(run: str) -> Path:
    """What the process that logs a run holds, so that one that was killed can be told from one at work."""
    return machine.root() / ".fcn" / "locks" / f"run-{run}"


def origin() -> dict[str, str]:
    """The commit that the code comes from; never the remote's address, which may carry a token."""
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {"mlflow.source.git.commit": answer.stdout.strip()} if answer.returncode == 0 else {}


def environment() -> dict[str, str]:
    """Host, processor and versions as tags, for `fcn report --with-env`."""
    facts = {"host": platform.node()} | machine.facts()
    versions = {f"version.{package}": version for package, version in machine.versions().items()}
    return {f"fcn.{key}": str(value) for key, value in (facts | versions).items()}
