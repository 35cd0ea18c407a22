"""What MLflow shows of an experiment: a parent run for the whole, a child run for each stage that ran.

Files are the truth and MLflow mirrors them: a store that is locked, full or out of reach costs one
warning, never the stage. `fcn sync` adds what is missing.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from fcn import documents, files, identity, records, store
from fcn.errors import UserError, first_line
from fcn.params import Params
from fcn.store import Rows, Store
from fcn.vitals import Vitals


class Run:
    """A stage's child run and, above it, the experiment's row. Every method is free to fail, once, aloud."""

    def __init__(self, stage: str, alive: bool = True) -> None:
        self.stage, self.alive = stage, alive
        self.child = self.parent = self.dataset = ""
        self.held: TextIO | None = None
        self.vitals: Vitals | None = None
        self.sampled = 0

    def curve(self, rows: Rows) -> None:
        """Points of the stage's curves: rows of `iteration` and values by name."""
        self._attempt(lambda: records.curves(self.store, self.child, self.parent, self.stage, rows))
        self._attempt(self._log_vitals)

    def tag(self, **tags: str) -> None:
        """Tags on the child; __ in a name stands for a dot."""
        self._attempt(lambda: self.store.tag(self.child, {k.replace("__", "."): v for k, v in tags.items()}))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file among the artifacts of child and parent."""
        for run in (self.child, self.parent):
            self._attempt(lambda run=run: self.store.client.log_artifact(run, str(path), folder))  # type: ignore[misc]

    def text(self, content: str, name: str) -> None:
        """A small text file among the child's artifacts."""
        self._attempt(lambda: self.store.client.log_text(self.child, content, name))

    def scores(self, values: Mapping[str, float]) -> None:
        """Final values on the child and on the experiment's row."""
        for run in (self.child, self.parent):
            self._attempt(lambda run=run: self.store.scores(run, values))  # type: ignore[misc]

    def data(self, folder: Path, role: str, context: str) -> None:
        """A packed split as the input of child and row, known by the digest that dvc.lock has of its folder."""
        name = f"{self.dataset}-{role}"
        for run in (self.child, self.parent):
            self._attempt(
                lambda run=run: self.store.dataset(run, name, _digest(folder, role), folder.as_posix(), context)  # type: ignore[misc]
            )

    def _attempt(self, action: Callable[[], object]) -> None:
        if not self.alive:
            return
        try:
            action()
        except Exception as error:  # whatever a store, its driver or its network can think of
            self.alive = False
            cause: BaseException = error
            while cause.__cause__ is not None:  # the outer ones speak of sessions and statements
                cause = cause.__cause__
            reason = first_line(cause)
            print(f"warning: MLflow shows no more of this stage ({store.address()}: {reason})", file=sys.stderr)

    def _log_vitals(self) -> None:
        if self.vitals is None:
            return
        rows = [row | {"iteration": self.sampled + i} for i, row in enumerate(self.vitals.take())]
        self.sampled += len(rows)
        self.store.points(self.child, rows)

    def open(self, params: Params, declared: Mapping[str, object], done: bool) -> None:
        """Finds or makes the experiment's row and this stage's child, one process at a time."""
        values = params.model_dump()
        self.dataset = values["data"]["dataset"]
        with store.locked():
            self.store = Store()
            self.parent = records.row(self.store, values, identity.code(), identity.name(), records.origin())
            self.child = self._continued(done) or self._created(declared)
            if self.held is None:
                self.held = files.hold(records.lock_file(self.child))
        for run in (self.child, self.parent):
            self.store.client.update_run(run, "RUNNING")
        self.sampled = 1 + self.store.last(self.child).get("system/cpu_utilization_percentage", -1)
        self.vitals = Vitals()

    def _continued(self, done: bool) -> str:
        """The child that a kill left behind in this checkout, before its end or, if the stage was done, after it."""
        left = ("RUNNING", "KILLED", "FINISHED") if done else ("RUNNING", "KILLED")
        condition = f"tags.`mlflow.parentRunId` = '{self.parent}' and tags.stage = '{self.stage}' "
        for run in self.store.find(f"{condition} and tags.`fcn.place` = '{records.place()}'"):
            if run.info.status in left and (held := files.hold(records.lock_file(run.info.run_id))):
                self.held = held
                return str(run.info.run_id)
        return ""

    def _created(self, declared: Mapping[str, object]) -> str:
        tags = {"fcn.place": records.place(), **records.origin(), **records.environment()}
        return records.child(self.store, self.parent, self.stage, declared, tags)

    def close(self, status: str) -> None:
        """FINISHED, FAILED or KILLED: the child for good, the parent until another stage starts."""
        if self.vitals is not None:
            self.vitals.stop()
            self._attempt(self._log_vitals)
        for run in filter(None, (self.child, self.parent)):
            self.alive = True  # a store that failed once may be back, and must not keep a run RUNNING
            self._attempt(lambda run=run: self.store.close(run, status))  # type: ignore[misc]
        if self.held is not None:
            Path(self.held.name).unlink(missing_ok=True)
            self.held.close()


@contextmanager
def stage(name: str, params: Params, declared: Mapping[str, object], done: bool = False) -> Iterator[Run]:
    """The run of a stage for as long as it lasts: FINISHED, FAILED after an error, KILLED after a signal.

    A child that a kill left RUNNING is continued; if the stage was `done` when DVC was killed, the FINISHED one.
    """
    run = Run(name)
    run._attempt(lambda: run.open(params, declared, done))
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        run.close(status)


def _digest(folder: Path, role: str) -> str:
    """What dvc.lock says of a folder of packed splits; without DVC the digest of the split's index."""
    with suppress(OSError, KeyError, TypeError, UserError):
        path = Path("dvc.lock")
        lock: Any = documents.load_yaml(documents.read(path), str(path))
        for entry in lock["stages"].values():
            for out in entry.get("outs", []):
                if out["path"] == folder.as_posix():
                    return str(out["md5"])
    return files.sha256(folder / f"{role}.csv")[:32]
