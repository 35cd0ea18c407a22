"""Checkpoints: a killed rung resumes from its last one. Also locking, and handling of SIGTERM and SIGINT."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from fcn.models import Net, State
from fcn.pipeline import dvc_lock
from fcn.runtime import files, locks, machine
from fcn.runtime.distributed import SINGLE, Group
from fcn.training.optimizer import Optimizer

SAVE_EVERY = 60.0  # seconds between checkpoints
FACTS = ("number", "losses", "train", "val", "previews", "digests", "best_score", "best_number")
Row = dict[str, float]


@dataclass
class Checkpoint:
    """Training state of a rung, saved under a fingerprint of everything that its result depends on.

    folder       of this fingerprint, under `.fcn/states/`
    number       steps done
    losses       losses since the last point of the training curve
    train, val   points of the training and validation curves so far
    previews     predictions of a few validation images, by step number: fcn.rungs.previews
    digests      sha256 of the weights after some of the steps, by step number
    best         weights with the best validation score, with `save: best`; empty otherwise
    best_score   mean IU of `best`
    best_number  step of `best`
    average      mean of the weights so far, with `average`; empty before its first step
    """

    folder: Path
    number: int = 0
    losses: list[float] = field(default_factory=list)
    train: list[Row] = field(default_factory=list)
    val: list[Row] = field(default_factory=list)
    previews: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    best_score: float = -1.0
    best_number: int = 0
    best: State = field(default_factory=dict)
    average: State = field(default_factory=dict)
    saved_at: float = field(default_factory=time.monotonic)

    def saved(self) -> list[Path]:
        """The saved files, newest first. Each is named by its step number and the sha256 of its content."""
        names = {path: re.fullmatch(r"(\d+)-[0-9a-f]{64}\.safetensors", path.name) for path in self.folder.glob("*")}
        return sorted((path for path in names if names[path]), key=lambda path: int(names[path][1]), reverse=True)  # type: ignore[index]

    def is_due(self) -> bool:
        """Whether a checkpoint is due."""
        return time.monotonic() - self.saved_at > SAVE_EVERY

    def save(self, net: Net, optimizer: Optimizer) -> None:
        """Saves everything that later steps depend on. The previous file is kept in case this one is damaged."""
        parts = {
            "net": optimizer.state(net),
            "best": self.best,
            "average": self.average,
            "moments": optimizer.moments(),
        }
        tensors = {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        facts = {key: getattr(self, key) for key in FACTS}
        for old in self.saved()[1:]:
            old.unlink()
        path = self.folder / "state.safetensors"
        files.write_tensors(path, tensors, "resume", facts)
        path.replace(self.folder / f"{self.number}-{files.sha256(path)}.safetensors")
        self.saved_at = time.monotonic()

    def load(self, net: Net, optimizer: Optimizer, group: Group = SINGLE) -> None:
        """Restores the newest saved state, if there is one. All processes restore the state of the leader."""
        saved = group.broadcast(self._read() if group.is_leader else None)
        if saved is None:
            return
        facts, parts = saved
        vars(self).update(facts)
        optimizer.restore(net, parts["net"], parts["moments"])
        self.best, self.average = parts["best"], parts["average"]
        if group.is_leader:
            print(f"resuming from step {self.number}", flush=True)

    def _read(self) -> tuple[dict[str, Any], dict[str, State]] | None:
        """The newest file whose content matches the sha256 in its name; damaged files are deleted."""
        for path in self.saved():
            number, _, digest = path.stem.partition("-")
            if files.sha256(path) == digest:
                return _parts(path)
            path.unlink()
            print(
                f"warning: the checkpoint of step {number} was damaged and has been deleted ({path.parent})", flush=True
            )
        return None

    def finish(self, out: Path) -> None:
        """Called once the rung is done. Keeps the newest file until dvc.lock names `out`: DVC may be killed first."""
        if states := self.saved():
            for old in states[1:]:
                old.unlink()
            with suppress(OSError):  # disk full: the checkpoint then stays until it is cleaned up by age
                files.write_text(self.folder / dvc_lock.MODEL_MD5, files.md5(out))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Locks this fingerprint. A second process with the same fingerprint waits, then finds the finished state."""

        def say(process: str) -> None:
            print(f"process {process} is running the same training; waiting for its result", flush=True)

        with locks.locked(dvc_lock.lock_of(self.folder), say):
            yield


def _parts(path: Path) -> tuple[dict[str, Any], dict[str, State]]:
    parts: dict[str, State] = {"net": {}, "best": {}, "average": {}, "moments": {}}
    for key, tensor in files.read_tensors(path).items():
        part, _, name = key.partition("/")
        parts[part][name] = tensor
    return json.loads(files.read_metadata(path, "resume")), parts


@contextmanager
def signals() -> Iterator[Callable[[], int]]:
    """Catches SIGTERM and SIGINT, so that the current step can finish and be saved before the process ends.

    yields   a function that returns the number of the first signal received, or 0. It also returns SIGTERM once the
             DVC process that started this stage is gone
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    dvc, checked_at = machine.dvc(), time.monotonic()  # without DVC the result would not be recorded

    def first_signal() -> int:
        nonlocal checked_at
        if dvc and not received and time.monotonic() - checked_at > 1:
            checked_at = time.monotonic()
            if not machine.is_running(dvc):
                received.append(signal.SIGTERM)
        return received[0] if received else 0

    previous = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield first_signal
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
