"""What MLflow shows of an experiment: a parent run for the whole, a child run for each stage that ran.

Files are the truth and MLflow mirrors them: a store that is locked, full or out of reach costs one
warning, never the stage. `fcn sync` adds what is missing.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from fcn.params import Params
from fcn.pipeline import dvc_lock
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError
from fcn.tracking import identity, records, store
from fcn.tracking.identity import Experiment
from fcn.tracking.store import Rows, Store
from fcn.tracking.system_metrics import SystemMetrics


class Run:
    """A stage's child run and, above it, the experiment's row. Every method is free to fail, once, aloud."""

    def __init__(self, stage: str, alive: bool = True) -> None:
        self.stage, self.alive = stage, alive
        self.child = self.parent = self.dataset = ""
        self.held: TextIO | None = None
        self.vitals: SystemMetrics | None = None
        self.sampled = 0
        self.ended: int | None = None  # when the row was FINISHED before

    def curve(self, rows: Rows) -> None:
        """Points of the stage's curves: rows of `iteration` and values by name."""
        self._attempt(lambda: records.curves(self.store, self.child, self.parent, self.stage, rows))
        self._attempt(self._log_vitals)

    def tag(self, **tags: str) -> None:
        """Tags on the child; __ in a name stands for a dot."""
        self._attempt(lambda: self.store.tag(self.child, {k.replace("__", "."): v for k, v in tags.items()}))

    def artifact(self, path: Path, folder: str | None = None, *, shared: bool = True) -> None:
        """A file among the artifacts of the child and, if it is shared, of the parent."""
        for run in (self.child, self.parent) if shared else (self.child,):
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
            reason = store.reason(cause)
            print(f"warning: MLflow shows no more of this stage ({store.shown()}: {reason})", file=sys.stderr)

    def _log_vitals(self) -> None:
        if self.vitals is None:
            return
        rows = [row | {"iteration": self.sampled + i} for i, row in enumerate(self.vitals.drain())]
        self.sampled += len(rows)
        self.store.points(self.child, rows)

    def open(self, params: Params, declared: Mapping[str, object], fingerprint: str) -> None:
        """Finds or makes the experiment's row and this stage's child, one process at a time."""
        lock = dvc_lock.read()
        experiment = Experiment(params.model_dump(), identity.code(), identity.name(), dvc_lock.packed(lock))
        self.dataset = experiment.dataset
        now = str(int(time.time() * 1000))
        with store.locked():
            self.store = Store()
            self.parent = records.row(self.store, experiment, self.stage, fingerprint, records.origin())
            self.child = self._continued(fingerprint, now) or self._created(declared, fingerprint)
            if self.held is None:
                self.held = files.acquire(records.lock_file(self.child))
            self._close_left(experiment)
            row = self.store.client.get_run(self.parent).info
            self.ended = row.end_time if row.status == "FINISHED" else None
            self.store.tag(self.parent, {records.OPENED: now, records.OWNER: records.owner()})
        for run in (self.child, self.parent):
            self.store.client.update_run(run, "RUNNING")
        self.sampled = 1 + self.store.last(self.child).get("system/cpu_utilization_percentage", -1)
        self.vitals = SystemMetrics()

    def _continued(self, fingerprint: str, now: str) -> str:
        """The child with this fingerprint in this checkout, however it ended: the same result has one run."""
        for run in records.children(self.store, self.parent, self.stage):
            tags = run.data.tags
            if tags.get("fingerprint", "") != fingerprint or tags.get(store.PLACE) != machine.location_digest():
                continue
            if held := files.acquire(records.lock_file(run.info.run_id)):
                self.held = held
                if run.info.status == "FINISHED":
                    self.store.tag(run.info.run_id, {"fcn.began": now})
                return str(run.info.run_id)
        return ""

    def _created(self, declared: Mapping[str, object], fingerprint: str) -> str:
        tags = {store.PLACE: machine.location_digest(), **({"fingerprint": fingerprint} if fingerprint else {})}
        tags |= records.origin() | records.environment()
        return records.child(self.store, self.parent, self.stage, declared, tags)

    def _close_left(self, experiment: Experiment) -> None:
        """Closes what a kill left of this stage in the experiment's other rows: nobody will continue it now."""
        for row in records.rows(self.store, experiment):
            for run in records.children(self.store, row.info.run_id, self.stage):
                mine = run.data.tags.get(store.PLACE) == machine.location_digest() and run.info.status == "RUNNING"
                if mine and (held := files.acquire(records.lock_file(run.info.run_id))):
                    with held:
                        self.store.close(run.info.run_id, "KILLED")
                        if row.info.run_id != self.parent and row.info.status == "RUNNING":
                            self.store.close(row.info.run_id, "KILLED")

    def close(self, status: str) -> None:
        """FINISHED, FAILED or KILLED; the row is RUNNING until its report is FINISHED."""
        if self.vitals is not None:
            self.vitals.stop()
            self._attempt(self._log_vitals)
        for close in (self._close_child, self._close_row):
            self.alive = True  # a store that failed once may be back, and must not keep a run RUNNING
            self._attempt(lambda close=close: close(status))  # type: ignore[misc]
        if self.held is not None:
            Path(self.held.name).unlink(missing_ok=True)
            self.held.close()

    def _close_child(self, status: str) -> None:
        if self.child:
            self.store.close(self.child, status)

    def _close_row(self, status: str) -> None:
        """A row that was FINISHED keeps its end: report runs again whenever the rest is restored, maybe weeks later."""
        if not self.parent:
            return
        reports = records.children(self.store, self.parent, records.STAGES[-1])
        if status != "FINISHED" or any(run.info.status == "FINISHED" for run in reports):
            self.store.close(self.parent, status, self.ended if status == "FINISHED" else None)


@contextmanager
def stage(name: str, params: Params, declared: Mapping[str, object], fingerprint: str = "") -> Iterator[Run]:
    """The run of a stage for as long as it lasts: FINISHED, FAILED after an error, KILLED after a signal.

    A run of the stage with the same fingerprint is continued, one with another never.

    fingerprint   of all that the stage's result depends on
    """
    run = Run(name)
    run._attempt(lambda: run.open(params, declared, fingerprint))
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
    with suppress(UserError):
        for entry in dvc_lock.read().values():
            for out in entry["outs"]:
                if out["path"] == folder.as_posix():
                    return str(out["md5"])
    return files.sha256(folder / f"{role}.csv")[:32]
