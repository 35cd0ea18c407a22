"""Runs a group of DVC experiments, in sequence or several at once, and skips those that are finished.

Each runs in a temporary copy of the checkout (`dvc exp run --temp`). Unlike DVC's queue, this needs no background
process, which would go on after a Ctrl-C and leave experiments "Running" after a kill. DVC's refs are the only record
of what is finished: an experiment is not run again if one of its name has the same params and code, and results up to
date with both. Killed, the same command goes on: its stages continue from their checkpoints and DVC's run cache.
"""

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import psutil
from tqdm import tqdm

from fcn import params
from fcn.experiments import history
from fcn.experiments.history import Snapshot
from fcn.ladder import LADDER
from fcn.params import Params
from fcn.runtime import commands, documents, locks, machine
from fcn.runtime.errors import UserError
from fcn.tracking import identity
from fcn.tracking.records import STAGES

POLL = 0.5  # seconds between two looks at the processes
SETTLE = 60.0  # seconds within which DVC has restored what it changed to copy a checkout
RETRY, TRIES = 5.0, 120  # seconds before DVC is started again while another DVC holds its lock, and how often
REPORT_EVERY = 60.0  # seconds between two lines of progress without a terminal
TRAINING = 0.9  # share of an experiment's time that is training; the rest is scoring and the report
BUSY = ("Unable to acquire lock", "is busy")  # in DVC's error if another DVC holds its lock
OWN = "data/own"
STEPS = re.compile(r"^(FCN-\d+s)  (\d+)/\d+ steps", re.MULTILINE)  # fcn.runtime.progress, without a terminal
BAR = "{desc}  {percentage:3.0f}% |{bar}| {postfix}"


@dataclass(frozen=True)
class Planned:
    """An experiment to run.

    name     of the DVC experiment
    changes  as for `dvc exp run --set-param`, each KEY=VALUE
    params   of the experiment: params.yaml with the changes
    inputs   sha256 by path of the code, the graph and the user's own images that git tracks
    """

    name: str
    changes: tuple[str, ...]
    params: Params = field(repr=False)
    inputs: Mapping[str, str] = field(repr=False)

    def is_result(self, state: Snapshot) -> bool:
        """Whether a snapshot is the finished result of this experiment.

        raises   UserError if a file of the snapshot is invalid
        """
        same = identity.same(state.values, self.params.model_dump()) and _inputs(state.content) == self.inputs
        return same and STAGES[-1] in state.stages


def plan(name: str, changes: Sequence[str]) -> Planned:
    """Plans an experiment from params.yaml, with some values changed.

    raises   UserError if a change is not KEY=VALUE, or a key or value is not one of params.yaml
    """
    return Planned(name, tuple(changes), changed(changes), workspace_inputs())


def changed(changes: Sequence[str], path: Path = Path("params.yaml")) -> Params:
    """A params file, by default params.yaml, with some values changed.

    raises   UserError as `plan`
    """
    params.load(path)  # raises if it is missing or invalid without the changes
    content = params.parse(documents.read(path), str(path))
    for change in changes:
        key, equals, text = change.partition("=")
        *sections, last = key.split(".")
        section: Any = content
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if not equals or not isinstance(section, dict) or last not in section:
            raise UserError(f"-S {change}: write KEY=VALUE with a key of {path}, such as -S lr=1e-4")
        section[last] = documents.load_yaml(text, f"-S {change}")
    return params.check(content, f"{path} with " + " ".join(f"-S {change}" for change in changes))


def changes_to(wanted: Params) -> tuple[str, ...]:
    """The changes that turn params.yaml into other params, each KEY=VALUE as `changed` and DVC read it."""
    now, then = (identity.flat(values.model_dump()) for values in (params.load(), wanted))
    return tuple(f"{key}={_notation(value)}" for key, value in then.items() if not identity.same(now[key], value))


def _notation(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def workspace_inputs() -> dict[str, str]:
    """`Planned.inputs` of the workspace. DVC copies only what git tracks, so untracked files are left out."""
    listed = commands.git("ls-files", "-z", "--", *identity.CODE, identity.GRAPH, OWN)
    if listed is None or commands.git("rev-parse", "HEAD") is None:
        raise UserError("this checkout has no commit, and DVC's experiments need one; `git add --all && git commit`")
    paths = [Path(name.decode("utf-8", "surrogateescape")) for name in listed.split(b"\0") if name]
    return _inputs({path.as_posix(): path.read_bytes() for path in paths if path.is_file()})


def _inputs(content: Mapping[str, bytes]) -> dict[str, str]:
    paths = [path for path in content if identity.is_code(Path(path)) or path.startswith(f"{OWN}/")]
    return {path: hashlib.sha256(content[path]).hexdigest() for path in paths}


def result(planned: Planned) -> Snapshot | None:
    """The finished result of an experiment, if there is one."""
    for state in history.experiments(planned.name):
        with suppress(UserError):  # a damaged or invalid file: not a result
            if planned.is_result(state):
                return state
    return None


@dataclass
class _Running:
    """A DVC process, the log of what it prints, and its attempts to get DVC's lock."""

    planned: Planned
    process: "subprocess.Popen[bytes]"
    log: Path
    start: float

    @property
    def done(self) -> float:
        """About the fraction of it that is done: of its training steps, from its log."""
        found = dict(STEPS.findall(self.log.read_text(errors="replace")))
        steps = [(net.title, self.planned.params.rung(net.stride).iterations) for net in LADDER]
        before = 0
        for i, (title, iterations) in enumerate(steps):
            if any(later in found for later, _ in steps[i + 1 :]):
                before += iterations
            else:
                before += int(found.get(title, 0))
        return TRAINING * before / max(1, sum(iterations for _, iterations in steps))


class Progress:
    """Shows how many experiments are done and the time left: a bar on a terminal, else a line a minute."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.done, self.start, self.last = total, done, time.monotonic(), time.monotonic()
        self.computed = 0  # of `done`, in this call
        self.bar = tqdm(total=100, bar_format=BAR) if sys.stderr.isatty() else None

    def write(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def finish(self, text: str, computed: bool) -> None:
        """Counts an experiment as done, and prints a line."""
        self.done += 1
        self.computed += computed
        self.write(f"{text}; {self.done} of {self.total} done")

    def show(self, running: Sequence[_Running], is_due: bool = False) -> None:
        now = time.monotonic()
        if self.bar is None and not is_due and now - self.last < REPORT_EVERY:
            return
        self.last = now
        fractions = sum(one.done for one in running)
        text = f"{self.done}/{self.total} experiments, {self._left(fractions)}"
        if self.bar is not None:
            self.bar.set_description_str(", ".join(one.planned.name for one in running), refresh=False)
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.n = 100 * (self.done + fractions) / self.total
            self.bar.refresh()
        elif running:
            self.write(text)

    def _left(self, fractions: float) -> str:
        from fcn.rungs.cost import duration  # imports torch

        computed = self.computed + fractions
        if not computed:
            return "time left not known yet"
        speed = computed / (time.monotonic() - self.start)
        return f"about {duration((self.total - self.done - fractions) / speed)} left"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def run(
    experiments: Sequence[Planned],
    jobs: int,
    finished: Callable[[Snapshot], None],
    stop: Callable[[Planned], str | None] = lambda planned: None,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Runs the experiments that are not finished, at most `jobs` at once. An experiment that fails stops no other.

    finished   is called with the result of each experiment once, also of those finished earlier
    stop       is called again and again with each running experiment, which is stopped for the reason that it returns
    progress   of several calls, which the caller closes; by default of this one
    returns    the reasons of the experiments that failed, by name; their lines are printed
    raises     UserError if params.yaml or the code changed in between; KeyboardInterrupt after Ctrl-C, SIGTERM or
               SIGHUP, when the running stages have saved their state and ended
    """
    waiting, running, failed = list(experiments), list[_Running](), dict[str, str]()
    retries: dict[str, tuple[int, float]] = {}  # by name: how often DVC was locked, and when to try again
    noted: set[str] = set()
    is_own, progress = progress is None, progress or Progress(len(experiments))

    def collect(planned: Planned, words: str, computed: bool) -> bool:
        state = result(planned)
        if state:
            finished(state)
            progress.finish(f"{planned.name}: {words}", computed)
        return state is not None

    with interruptible():
        try:
            waiting = [planned for planned in waiting if not collect(planned, "finished earlier", computed=False)]
            while waiting or running:
                elsewhere = [one for one in waiting if locks.is_held(_lock_of(one))]
                for name in {one.name for one in elsewhere} - noted:
                    progress.write(f"{name}: another process is computing it; waiting")
                    noted.add(name)
                for planned in [one for one in waiting if retries.get(one.name, (0, 0.0))[1] <= time.monotonic()]:
                    if len(running) + len(elsewhere) >= jobs:
                        break
                    lock = locks.acquire(_lock_of(planned))
                    if lock is None:
                        continue
                    with lock:
                        waiting.remove(planned)
                        if not collect(planned, "finished by another process", computed=False):
                            running.append(_start(planned, lock))
                            progress.show(running, is_due=True)
                time.sleep(POLL)
                progress.show(running)
                for one in list(running):
                    if one.process.poll() is None and (why := stop(one.planned)):
                        _stop([one])
                        running.remove(one)
                        progress.finish(f"{one.planned.name}: {why}", computed=True)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    name = one.planned.name
                    if collect(one.planned, f"finished in {_elapsed(one)}", computed=True):
                        continue
                    reason, tries = _reason(one), retries.get(name, (0, 0.0))[0]
                    if any(words in reason for words in BUSY) and tries < TRIES:
                        waiting.insert(0, one.planned)
                        retries[name] = tries + 1, time.monotonic() + RETRY
                        continue
                    failed[name] = reason
                    progress.write(f"{name}: failed ({reason}); its output is in {one.log}")
        except BaseException:
            _stop(running)
            raise
        finally:
            if is_own:
                progress.close()
    return failed


def _lock_of(planned: Planned) -> Path:
    """The lock that DVC holds while it runs an experiment of this name."""
    return locks.named(f"experiment-{planned.name}")


def _start(planned: Planned, lock: TextIO) -> _Running:
    """Starts DVC, which inherits the lock: it is held until DVC ends, even if this process is killed."""
    _await_unchanged(planned)
    log = machine.root() / ".fcn" / "groups" / f"{planned.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", planned.name]
    words += [word for change in planned.changes for word in ("--set-param", change)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, pass_fds=[lock.fileno()]
        )
    return _Running(planned, process, log, time.monotonic())


def _await_unchanged(planned: Planned) -> None:
    """Waits until params.yaml and the code are as planned: while DVC copies a checkout, it changes and restores them.

    raises   UserError if they stay changed
    """
    deadline = time.monotonic() + SETTLE
    while True:
        with suppress(UserError):  # params.yaml is half written
            if plan(planned.name, planned.changes) == planned:
                return
        if time.monotonic() > deadline:
            raise UserError(
                "params.yaml or the code changed after the first experiment was started; run the command again"
            )
        time.sleep(POLL)


def _elapsed(one: _Running) -> str:
    from fcn.rungs.cost import duration  # imports torch

    return duration(time.monotonic() - one.start)


def _reason(one: _Running) -> str:
    """The cause of a failure in one line: the last error of a stage or of DVC."""
    if one.process.returncode == 0:
        return "its results are not those of its params and code; were files edited while it ran?"
    lines = [line.strip() for line in one.log.read_text(errors="replace").splitlines() if line.strip()]
    of_stage = [line for line in lines if line.startswith("error: ")]
    of_dvc = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (of_stage or of_dvc or lines or [f"DVC ended with {one.process.returncode}"])[-1].removeprefix("error: ")


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stop(running: Sequence[_Running]) -> None:
    """Interrupts the running stages, which save their state, and waits; a second Ctrl-C kills them.

    DVC ignores SIGINT while a stage is running, and would start the next stage if this one had just ended.
    """
    alive = [psutil.Process(one.process.pid) for one in running if one.process.poll() is None]
    try:
        while alive:
            for process in alive:
                with suppress(psutil.Error):
                    for child in process.children(recursive=True) or [process]:
                        child.send_signal(signal.SIGINT)
            alive = psutil.wait_procs(alive, timeout=3.0)[1]
    except KeyboardInterrupt:
        for process in alive:
            with suppress(psutil.Error):
                for child in [*process.children(recursive=True), process]:
                    child.kill()
        raise
    for one in running:
        one.process.wait()
