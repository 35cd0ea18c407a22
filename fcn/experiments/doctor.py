"""`fcn doctor`: checks this machine and this checkout. One line per finding; it changes nothing."""

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

from fcn import params
from fcn.experiments import integrity, leftovers
from fcn.pipeline import cache, dvc_lock
from fcn.runtime import locks, machine
from fcn.runtime.errors import UserError, counted, printable
from fcn.tracking import records, store

CACHE_SECONDS = 30.0  # default time limit for comparing DVC's cache
LOW_SPACE, NO_SPACE = 10e9, 1e9  # free bytes below which the disk gets a warning, and below which it is "bad"


@dataclass(frozen=True)
class Finding:
    """One line of the report: its level and its text."""

    level: Literal["ok", "warn", "bad"]
    text: str

    def __str__(self) -> str:
        return f"{self.level:4}  {printable(self.text)}"


def findings(seconds: float = CACHE_SECONDS) -> Iterator[Finding]:
    """Runs all checks, the environment first.

    seconds   time limit for comparing DVC's cache
    """
    cached = partial(_cache, seconds)
    checks = (_environment, _disks, _machine, _params, _dvc, _queue, _models, cached, _mlflow, _leftovers)
    for check in checks:
        try:
            yield from check()
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
        existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(existing).free
        text = f"{free / 1e9:.1f} GB free for {name}"
        yield Finding("bad" if free < NO_SPACE else "warn" if free < LOW_SPACE else "ok", text)


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
    from fcn.experiments import plan
    from fcn.io import download

    mirror = download.mirror()
    text = f"is {mirror}" if mirror else "is not set: archives are downloaded from their publishers"
    yield Finding("ok", f"FCN_MIRROR {text}")
    for archive in plan.archives(experiment):
        path = download.find(archive)
        yield Finding("ok" if path else "warn", f"{archive.name} {'is here' if path else 'is not downloaded yet'}")


def _dvc() -> Iterator[Finding]:
    folder = Path(".dvc")
    if not folder.is_dir():
        yield Finding("bad", "there is no .dvc folder here; run fcn's commands in its checkout")
        return
    if dvc_lock.LOCK.is_file() and dvc_lock.stages(dvc_lock.LOCK.read_bytes()) is None:
        yield Finding("bad", "dvc.lock is truncated, as after a kill; `fcn check` restores the last complete one")


def _models() -> Iterator[Finding]:
    from fcn.weights import model_file

    intact = 0
    for path in sorted(Path("data/weights").glob("*.safetensors")):
        try:
            model_file.load(path)
        except UserError as error:
            yield Finding("bad", str(error))
        else:
            intact += 1
    if intact:
        yield Finding("ok", f"{counted(intact, 'model file')} intact")


def _cache(seconds: float) -> Iterator[Finding]:
    result = integrity.compare(seconds)
    for cached, path in result.damaged:
        restore = f"`dvc pull` if a remote has it, else `dvc repro`; nothing else restores {path}"
        yield Finding("bad", f"{cached} does not match its md5: delete it and {path}, then {restore}")
    intact = result.count - len(result.damaged)
    text = f"{intact} objects of DVC's cache ({result.size / 1e6:.0f} MB) match their md5"
    if result.missing:
        text += f"; {result.missing} that dvc.lock names {'is' if result.missing == 1 else 'are'} not in the cache"
    if result.left:
        yield Finding("warn", f"{text}, {result.left} were not compared; `fcn doctor --full` compares all")
    else:
        yield Finding("ok", text)


def _queue() -> Iterator[Finding]:
    for name, process in leftovers.queued():
        remedy = f"`dvc queue kill {name} && dvc queue remove {name}`, then queue it again: it resumes"
        wait = f"when process {process} has ended, " if process else ""
        yield Finding("warn", f"the worker of queued experiment {name} was killed; {wait}{remedy}")


def _mlflow() -> Iterator[Finding]:
    if not store.exists():
        yield Finding("ok", f"no MLflow store at {store.safe_address()} yet; `fcn sync` creates one")
        return
    try:
        runs = store.Store()
        rows = [run for run in runs.find() if records.is_row(run)]
        left = leftovers.left_running(runs)
    except Exception as error:  # any error of the store, its driver or its network
        yield Finding("bad", f"{store.safe_address()} cannot be read ({store.reason(error)})")
        return
    yield Finding("ok", f"MLflow shows {counted(len(rows), 'experiment')} ({store.safe_address()})")
    for run in left:
        if records.is_row(run):
            text = f"MLflow's experiment {run.info.run_name} is RUNNING, but stopped before its report"
        else:
            text = f"MLflow's run {run.info.run_name} is RUNNING, but its process is not"
        yield Finding("warn", f"{text}; `fcn sync` closes it")


def _leftovers() -> Iterator[Finding]:
    unneeded = dvc_lock.unneeded_checkpoints()
    for state in leftovers.states():
        used = locks.is_held(dvc_lock.lock_of(state))
        age, megabytes = leftovers.age(state), leftovers.size(state) / 1e6
        text = f"checkpoint {leftovers.short(state)}: {megabytes:.0f} MB, {age:.1f} days old"
        if used:
            yield Finding("ok", f"{text}, in use")
        elif state in unneeded:
            yield Finding("ok", f"{text}; its rung is done, and the next stage or `fcn doctor --prune` removes it")
        elif age > leftovers.MAX_AGE:
            yield Finding("warn", f"{text}; `fcn doctor --prune` removes it")
        else:
            yield Finding("ok", f"{text}; the same command resumes from it")
