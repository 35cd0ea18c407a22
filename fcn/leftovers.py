"""What a kill leaves behind: runs that seem to run, states to go on from."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fcn import files, machine, recorded, records, store
from fcn.store import Store

OLD = 7.0  # days after which nobody is expected to go on with a state


def left_running(runs: Store) -> list[Any]:
    """Runs of this checkout that are RUNNING though nobody is at work on them, stages before rows."""
    running = runs.find("attributes.status = 'RUNNING'")
    mine = [run for run in running if run.data.tags.get(store.PLACE) == machine.place()]
    dead = [run for run in mine if not files.is_held(records.lock_file(run.info.run_id))]
    gone = {run.info.run_id for run in dead}
    alive = {_parent(run) for run in running if _parent(run) and run.info.run_id not in gone}
    rows = [run for run in running if not _parent(run) and run.info.run_id not in alive and not records.is_owned(run)]
    return [*dead, *(row for row in rows if _is_mine(runs, row))]


def _parent(run: Any) -> str:
    return str(run.data.tags.get("mlflow.parentRunId", ""))


def _is_mine(runs: Store, row: Any) -> bool:
    """Whether all of a row's stages ran in this checkout, so that no other can be between two of them."""
    children = [run.data.tags for run in runs.find(f"tags.`mlflow.parentRunId` = '{row.info.run_id}'")]
    return bool(children) and all(
        "fcn.rebuilt" in tags or tags.get(store.PLACE) == machine.place() for tags in children
    )


def prune(days: float) -> Iterator[str]:
    """Removes states that nobody went on with for so many days, and those that nobody needs to go on from."""
    needless = recorded.needless()
    for state in states():
        lock = files.hold(lock_of(state)) if state in needless or age(state) > days else None
        if lock is None:
            continue
        with lock:  # held: a rung that begins now waits until the state is gone
            freed = size(state)
            shutil.rmtree(state)
        yield f"removed {short(state)}, {freed / 1e6:.0f} MB"


def states() -> list[Path]:
    return sorted(path for path in recorded.states().glob("*") if path.is_dir())


def lock_of(state: Path) -> Path:
    """What `Resume.turn` holds."""
    return machine.root() / ".fcn" / "locks" / state.name


def age(state: Path) -> float:
    """Days since anything in a state was written."""
    newest = max(path.stat().st_mtime for path in (state, *state.iterdir()))
    return (time.time() - newest) / 86400


def size(state: Path) -> int:
    return sum(path.stat().st_size for path in state.rglob("*") if path.is_file())


def short(path: Path) -> str:
    relative = path.relative_to(machine.root()).as_posix()
    return re.sub(r"([0-9a-f]{12})[0-9a-f]{52}", r"\1…", relative)
