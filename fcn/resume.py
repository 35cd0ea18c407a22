"""What a rung needs to go on where a kill left it, and to be the only one at work on its file."""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from safetensors import safe_open
from safetensors.torch import save_file

from fcn import files, machine
from fcn.errors import UserError
from fcn.models import FCN
from fcn.training import Optimizer
from fcn.weights import State

SAVE_EVERY = 60.0  # seconds between two saved states
Row = dict[str, float]


@dataclass
class Resume:
    """How far a rung is. Saved under a fingerprint of all that its result depends on.

    folder      of this fingerprint, under `.fcn/states/`
    number      steps done
    train, val  points of the curves so far
    best        the net's weights when it scored `best_score`, if those are to be kept
    """

    folder: Path
    number: int = 0
    train: list[Row] = field(default_factory=list)
    val: list[Row] = field(default_factory=list)
    best_score: float = -1.0
    best: State = field(default_factory=dict)
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        return self.folder / "state.safetensors"

    def is_due(self) -> bool:
        """Whether enough time has passed since the last saving to lose it gladly."""
        return time.monotonic() - self.saved_at > SAVE_EVERY

    def save(self, net: FCN, optimizer: Optimizer) -> None:
        """Writes everything that the coming steps depend on; the last state stays until this one is whole."""
        parts = {"net": optimizer.state(net), "best": self.best, "moments": optimizer.moments()}
        tensors = {
            f"{part}/{name}": tensor.detach().cpu().contiguous()
            for part, state in parts.items()
            for name, tensor in state.items()
        }
        facts = {key: getattr(self, key) for key in ("number", "train", "val", "best_score")}
        with files.replacing(self.path) as temporary:
            save_file(tensors, temporary, {"resume": json.dumps(facts)})
        self.saved_at = time.monotonic()

    def load(self, net: FCN, optimizer: Optimizer) -> None:
        """Goes back to the saved state, if there is one."""
        if not self.path.exists():
            return
        parts: dict[str, State] = {"net": {}, "best": {}, "moments": {}}
        with safe_open(self.path, "pt") as file:
            vars(self).update(json.loads(file.metadata()["resume"]))
            for key in file.keys():  # noqa: SIM118, no mapping
                part, _, name = key.partition("/")
                parts[part][name] = file.get_tensor(key)
        optimizer.restore(net, parts["net"], parts["moments"])
        self.best = parts["best"]
        print(f"going on after step {self.number}", flush=True)

    def done(self) -> None:
        """The rung's files are written; nothing is left to go on from."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Refuses a second trainer of the same file: two would overwrite each other's work."""
    name = out.resolve().as_posix().strip("/").replace("/", "-")
    lock = machine.root() / ".fcn" / "locks" / name
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"process {file.read().strip()} is training {out}; wait for it, or end it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT, so that what is under way is finished and saved before the end."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
