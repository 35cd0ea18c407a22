"""Whether this machine and this checkout are fit for work: one finding a line, nothing is changed unless asked for."""

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from fcn import params
from fcn.experiments import integrity, leftovers
from fcn.pipeline import cache, dvc_lock
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError, counted, printable
from fcn.tracking import store

BRIEF = 30.0  # seconds for which DVC's cache is compared, unless there is time
TIGHT, FULL = 10e9, 1e9  # bytes free below which it is worth a warning, and below which nothing will work


@dataclass(frozen=True)
class Finding:
    """One line: fit, doubtful or not."""

    level: Literal["ok", "warn", "bad"]
    text: str

    def __str__(self) -> str:
        return f"{self.level:4}  {printable(self.text)}"


def findings(seconds: float = BRIEF) -> Iterator[Finding]:
    """Everything worth knowing, the environment first.

    seconds   for which DVC's cache is compared
    """
    cached = partial(_cache, seconds)
    looks = (_environment, _disks, _machine, _params, _dvc, _queue, _models, cached, _mlflow, _leftovers)
    for look in looks:
        try:
            yield from look()
        except UserError as error:
            yield Finding("bad", str(error))


def _environment() -> Iterator[Finding]:
    level: Literal["ok", "bad"] = "ok" if sys.version_info >= (3, 11) else "bad"
    yield Finding(level, f"Python {platform.python_version()}")
    lock = Path("requirements.lock")
    pins = dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", lock.read_text(), re.MULTILINE)) if lock.is_file() else {}
    for name in machine.PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("bad", f"{name} is not installed; `make repro` sets everything up")
            continue
        if name not in pins:
            yield Finding("warn", f"{name} {version}, which requirements.lock does not pin")
        elif version.partition("+")[0] != pins[name]:
            yield Finding(
                "warn", f"{name} {version}, but {pins[name]} is pinned; results may differ in their last digits"
            )
        else:
            yield Finding("ok", f"{name} {version}, as pinned")


def _disks() -> Iterator[Finding]:
    for name, folder in {"the checkout": machine.root(), "DVC's cache": cache.folder()}.items():
        there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free
        text = f"{free / 1e9:.1f} GB free for {name}"
        yield Finding("bad" if free < FULL else "warn" if free < TIGHT else "ok", text)


def _machine() -> Iterator[Finding]:
    import torch

    device = machine.device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, no GPU is used"
    yield Finding("ok", f"computes on {name}")
    threads, cores = torch.get_num_threads(), machine.cores()
    text = f"{counted(threads, 'thread')} for {counted(cores, 'core')}; the same number of threads gives the same bits"
    yield Finding("ok" if threads <= cores else "warn", text)


def _params() -> Iterator[Finding]:
    experiment = params.load()
    yield Finding("ok", f"params.yaml is a valid experiment on {experiment.data.dataset}")
    mirror = os.environ.get("FCN_MIRROR")
    if not mirror:
        yield Finding("ok", "FCN_MIRROR is not set: archives come from their makers' addresses")
    elif not (machine.root() / mirror).is_dir():
        yield Finding("bad", f"FCN_MIRROR is {mirror!r}, where there is no folder")
        return
    else:
        yield Finding("ok", f"FCN_MIRROR is {mirror!r}")
    from fcn.experiments import plan
    from fcn.io import download

    for archive in plan.archives(experiment):
        place = download.find(archive)
        yield Finding("ok" if place else "warn", f"{archive.name} {'is here' if place else 'is still to be fetched'}")


def _dvc() -> Iterator[Finding]:
    folder = Path(".dvc")
    if not folder.is_dir():
        yield Finding("bad", "no .dvc here; fcn's commands belong into its checkout")
        return
    path = folder / "tmp" / "rwlock"
    owners = _owners(path)
    # While a stage runs, DVC lets its lock go; the outs and deps that it names in this file stay its own.
    working = [number for number in owners if psutil.pid_exists(number)]
    busy = bool(working) or files.is_held(folder / "tmp" / "lock")
    who = f" (process {', '.join(map(str, working))})" if working else ""
    yield Finding("ok", f"DVC is at work in this checkout{who}" if busy else "DVC is idle in this checkout")
    if not busy and dvc_lock.LOCK.is_file() and dvc_lock.stages(dvc_lock.LOCK.read_bytes()) is None:
        yield Finding("bad", "dvc.lock is cut off, as by a kill; `fcn check` puts the last whole one back")
    if dead := sorted(owners - set(working)):
        yield Finding("warn", f"{path} names dead processes ({', '.join(map(str, dead))}); DVC drops them by itself")


def _models() -> Iterator[Finding]:
    from fcn.models import weights

    whole = 0
    for path in sorted(Path("data/weights").glob("*.safetensors")):
        try:
            weights.load(path)
        except UserError as error:
            yield Finding("bad", str(error))
        else:
            whole += 1
    if whole:
        yield Finding("ok", f"{whole} model files hold what was saved")


def _cache(seconds: float) -> Iterator[Finding]:
    found = integrity.compare(seconds)
    for place, path in found.damaged:
        again = f"`dvc pull` if a remote has it, else `dvc repro`; nothing else brings {path} back"
        yield Finding("bad", f"{place} is not what its name says: delete it and {path}, then {again}")
    intact = found.count - len(found.damaged)
    text = f"{intact} objects of DVC's cache ({found.size / 1e6:.0f} MB) are what their names say"
    if found.missing:
        text += f", {found.missing} are not here"
    if found.left:
        yield Finding("warn", f"{text}, {found.left} were not compared; `fcn doctor --full` takes its time")
    else:
        yield Finding("ok", text)


def _queue() -> Iterator[Finding]:
    for name, process in leftovers.queued():
        free = f"`dvc queue kill {name} && dvc queue remove {name}`, then queue it again: it goes on where it was"
        wait = f"when process {process} has ended, " if process else ""
        yield Finding("warn", f"the worker of queued experiment {name} was killed; {wait}{free}")


def _owners(path: Path) -> set[int]:
    """The processes that DVC's rwlock names.

    raises   UserError if it is damaged
    """
    try:
        held = json.loads(path.read_text() or "{}") if path.is_file() else {}
        readers = [entry for entries in held.get("read", {}).values() for entry in entries]
        return {int(entry["pid"]) for entry in [*held.get("write", {}).values(), *readers] if entry}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path} is damaged; delete it while no DVC is at work") from None


def _mlflow() -> Iterator[Finding]:
    if not store.exists():
        yield Finding("ok", f"no MLflow store at {store.safe_address()} yet; `fcn sync` makes one")
        return
    try:
        runs = store.Store()
        rows = [run for run in runs.find() if "mlflow.parentRunId" not in run.data.tags]
        left = leftovers.left_running(runs)
    except Exception as error:  # any error of the store, its driver or its network
        yield Finding("bad", f"{store.safe_address()} cannot be read ({store.reason(error)})")
        return
    yield Finding("ok", f"MLflow shows {counted(len(rows), 'experiment')} ({store.safe_address()})")
    for run in left:
        if "mlflow.parentRunId" in run.data.tags:
            text = f"MLflow's run {run.info.run_name} is RUNNING, its process is not"
        else:
            text = f"MLflow's experiment {run.info.run_name} is RUNNING, but was left before its report"
        yield Finding("warn", f"{text}; `fcn sync` closes it")


def _leftovers() -> Iterator[Finding]:
    needless = dvc_lock.unneeded_states()
    for state in leftovers.states():
        used = files.is_held(leftovers.lock_of(state))
        age, megabytes = leftovers.age(state), leftovers.size(state) / 1e6
        text = f"{leftovers.short(state)}: {megabytes:.0f} MB to go on from, {age:.1f} days old"
        if used:
            yield Finding("ok", f"{text}, in use")
        elif state in needless:
            yield Finding("ok", f"{text}; its rung is done, and the next stage or `fcn doctor --prune` removes it")
        elif age > leftovers.OLD:
            yield Finding("warn", f"{text}; `fcn doctor --prune` removes it")
        else:
            yield Finding("ok", f"{text}; the same command goes on with it")
