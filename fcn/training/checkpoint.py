"""What a rung needs to go on where a kill left it, and to be the only one at work on its file."""

import fcntl
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

from safetensors import safe_open

from fcn.models import FCN
from fcn.models.weights import State
from fcn.pipeline import dvc_lock
from fcn.runtime import files, machine
from fcn.runtime.distributed import SINGLE, Group
from fcn.training.optimizer import Optimizer

SAVE_EVERY = 60.0  # seconds between two saved states
FACTS = ("number", "losses", "train", "val", "seen", "digests", "best_score", "best_number")
Row = dict[str, float]


@dataclass
class Checkpoint:
    """How far a rung is. Saved under a fingerprint of all that its result depends on.

    folder       of this fingerprint, under `.fcn/states/`
    number       steps done
    losses       of the steps since the last point of the curve
    train, val   points of the curves so far
    seen         predictions of a few validation images, by the step's number: fcn.training.previews
    digests      of the weights after some steps, by the step's number
    best         the net's weights when it scored `best_score`, after `best_number` steps, if those are kept
    """

    folder: Path
    number: int = 0
    losses: list[float] = field(default_factory=list)
    train: list[Row] = field(default_factory=list)
    val: list[Row] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    best_score: float = -1.0
    best_number: int = 0
    best: State = field(default_factory=dict)
    saved_at: float = field(default_factory=time.monotonic)

    def saved(self) -> list[Path]:
        """The saved states, newest first: each is named by the steps it has done and the sha256 of its content."""
        names = {path: re.fullmatch(r"(\d+)-[0-9a-f]{64}\.safetensors", path.name) for path in self.folder.glob("*")}
        return sorted((path for path in names if names[path]), key=lambda path: int(names[path][1]), reverse=True)  # type: ignore[index]

    def is_due(self) -> bool:
        """Whether enough time has passed since the last saving to lose it gladly."""
        return time.monotonic() - self.saved_at > SAVE_EVERY

    def save(self, net: FCN, optimizer: Optimizer) -> None:
        """Writes everything that the coming steps depend on. The last state is kept, in case this one is damaged."""
        parts = {"net": optimizer.state(net), "best": self.best, "moments": optimizer.moments()}
        tensors = {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        facts = {key: getattr(self, key) for key in FACTS}
        for old in self.saved()[1:]:
            old.unlink()
        path = self.folder / "state.safetensors"
        files.write_tensors(path, tensors, "resume", facts)
        path.replace(self.folder / f"{self.number}-{files.sha256(path)}.safetensors")
        self.saved_at = time.monotonic()

    def load(self, net: FCN, optimizer: Optimizer, group: Group = SINGLE) -> None:
        """Goes back to the saved state, if there is one: the leader's, in all processes."""
        found = group.broadcast(self._read() if group.is_leader else None)
        if found is None:
            return
        facts, parts = found
        vars(self).update(facts)
        optimizer.restore(net, parts["net"], parts["moments"])
        self.best = parts["best"]
        if group.is_leader:
            print(f"going on after step {self.number}", flush=True)

    def _read(self) -> tuple[dict[str, Any], dict[str, State]] | None:
        """The newest state whose content has the digest in its name; those that are damaged are deleted."""
        for path in self.saved():
            number, _, digest = path.stem.partition("-")
            if files.sha256(path) == digest:
                return _parts(path)
            path.unlink()
            print(
                f"warning: the state saved after step {number} was damaged, and is deleted ({path.parent})", flush=True
            )
        return None

    def finish(self, out: Path) -> None:
        """The rung's files are written. Its last state stays until dvc.lock names `out`: DVC may be killed before."""
        if states := self.saved():
            for old in states[1:]:
                old.unlink()
            with suppress(OSError):  # a full disk: the state then stays until it is old
                files.write_text(self.folder / dvc_lock.MADE, files.md5(out))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One process at a time computes what this fingerprint names; a second waits, and finds it done."""
        with files.lock_file(self.folder.name).open("a+") as file:
            if not files.try_lock(file):
                print(f"process {files.owner(file)} computes the very same; waiting for its result", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            files.sign(file)
            yield


def _parts(path: Path) -> tuple[dict[str, Any], dict[str, State]]:
    parts: dict[str, State] = {"net": {}, "best": {}, "moments": {}}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118, no mapping
            part, _, name = key.partition("/")
            parts[part][name] = file.get_tensor(key)
        return json.loads(file.metadata()["resume"]), parts


@contextmanager
def signals() -> Iterator[Callable[[], int]]:
    """Collects SIGTERM and SIGINT, so that what is under way is finished and saved before the end.

    yields   what says the first signal's number, SIGTERM too once the DVC that began this is gone, or 0
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    dvc, looked = machine.dvc(), time.monotonic()  # without it nobody would take the result

    def ended() -> int:
        nonlocal looked
        if dvc and not received and time.monotonic() - looked > 1:
            looked = time.monotonic()
            if not machine.is_running(dvc):
                received.append(signal.SIGTERM)
        return received[0] if received else 0

    previous = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ended
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
