"""What a kill leaves behind: MLflow runs and queued experiments that seem to run, and checkpoints."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from fcn.pipeline import dvc_lock
from fcn.runtime import commands, files, locks, machine
from fcn.tracking import records, store
from fcn.tracking.store import Store

MAX_AGE = 7.0  # days after which a checkpoint is considered abandoned


def left_running(runs: Store) -> list[Any]:
    """Runs of this checkout that are RUNNING although their process has ended, stages before rows."""
    running = runs.find("attributes.status = 'RUNNING'")
    local = [run for run in running if run.data.tags.get(store.LOCATION) == machine.location_digest()]
    dead = [run for run in local if not locks.is_held(records.lock_file(run.info.run_id))]
    dead_ids = {run.info.run_id for run in dead}
    alive = {_parent(run) for run in running if _parent(run) and run.info.run_id not in dead_ids}
    rows = [
        run for run in running if records.is_row(run) and run.info.run_id not in alive and not records.is_owned(run)
    ]
    return [*dead, *(row for row in rows if _is_local(runs, row))]


def _parent(run: Any) -> str:
    return str(run.data.tags.get("mlflow.parentRunId", ""))


def _is_local(runs: Store, row: Any) -> bool:
    """Whether all of a row's stages ran in this checkout. Otherwise another checkout may be between two of them."""
    children = [run.data.tags for run in runs.find(f"tags.`mlflow.parentRunId` = '{row.info.run_id}'")]
    return bool(children) and all(
        "fcn.rebuilt" in tags or tags.get(store.LOCATION) == machine.location_digest() for tags in children
    )


def queued() -> Iterator[tuple[str, int | None]]:
    """Experiments of DVC's queue whose worker was killed, so that their results will not be collected.

    yields   the experiment's name, and the id of the process that computes it if that is still running
    raises   UserError if DVC cannot read its queue
    """
    orphans: dict[str, tuple[str, int | None]] = {}
    for path in sorted(Path(".dvc/tmp/exps/run").glob("*/*.run")):
        try:
            name = str(json.loads(path.read_text())["name"])
            process = psutil.Process(int(json.loads(path.with_suffix(".json").read_text())["pid"]))
            is_running = "exec-run" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
            if is_running and "queue-worker" not in process.parent().cmdline():  # type: ignore[union-attr]
                orphans[path.stem] = name, process.pid
        except psutil.NoSuchProcess:
            is_running = False
        except (OSError, ValueError, KeyError, TypeError, AttributeError, psutil.Error):
            continue  # it is just starting, or belongs to another user
        if not is_running and not _is_collected_by_a_worker(path):
            orphans[path.stem] = name, None
    if not orphans:
        return
    status = commands.dvc("queue", "status")
    for revision in re.findall(r"^([0-9a-f]{7}) .*\bRunning\s*$", status, re.MULTILINE):
        yield from (orphan for rev, orphan in orphans.items() if rev.startswith(revision))


def _is_collected_by_a_worker(path: Path) -> bool:
    """Whether an experiment ended less than a minute ago and a worker is running, which will collect its results."""
    newest = max(other.stat().st_mtime for other in path.parent.iterdir())
    workers = Path(".dvc/tmp/exps/celery").glob("dvc-exp-worker-*.pid")
    return time.time() - newest < 60 and any(files.is_alive(worker.read_text().strip()) for worker in workers)


def prune(days: float) -> Iterator[str]:
    """Removes checkpoints that are older than `days`, and those whose rung is done. Checkpoints in use are kept."""
    unneeded = dvc_lock.unneeded_checkpoints()
    for state in states():
        lock = locks.acquire(dvc_lock.lock_of(state)) if state in unneeded or age(state) > days else None
        if lock is None:
            continue
        with lock:  # a rung that starts now waits until the state is removed
            freed = size(state)
            shutil.rmtree(state)
        yield f"removed {short(state)}, {freed / 1e6:.0f} MB"


def states() -> list[Path]:
    return sorted(path for path in dvc_lock.states().glob("*") if path.is_dir())


def age(state: Path) -> float:
    """Days since a file of a checkpoint was last written."""
    newest = max(path.stat().st_mtime for path in (state, *state.iterdir()))
    return (time.time() - newest) / 86400


def size(state: Path) -> int:
    return sum(path.stat().st_size for path in state.rglob("*") if path.is_file())


def short(path: Path) -> str:
    relative = path.relative_to(machine.root()).as_posix()
    return re.sub(r"([0-9a-f]{12})[0-9a-f]{52}", r"\1…", relative)
