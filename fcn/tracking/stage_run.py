"""Tracks a running stage in MLflow: a child run, below the experiment's row (its parent run).

Files are the source of truth and MLflow mirrors them. If the store is locked, full or unreachable, the stage prints
one warning and goes on. `fcn sync` adds what is missing.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from fcn.params import Params
from fcn.pipeline import dvc_lock
from fcn.runtime import files, locks, machine
from fcn.tracking import datasets, identity, image_grid, logged_models, records, store
from fcn.tracking.datasets import Dataset
from fcn.tracking.identity import Experiment
from fcn.tracking.store import Rows, Store
from fcn.tracking.system_metrics import SystemMetrics

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from PIL import Image


class Run:
    """A stage's child run and the experiment's row. An error disables tracking for this stage, with one warning."""

    def __init__(self, stage: str, enabled: bool = True) -> None:
        self.stage, self.enabled = stage, enabled
        self.child = self.parent = self.dataset = ""
        self.declared: Mapping[str, object] = {}
        self.splits: dict[str, Dataset] = {}  # by name
        self.models: dict[str, LoggedModel] = {}  # that this stage scores, by net
        self.lock: TextIO | None = None
        self.system_metrics: SystemMetrics | None = None
        self.num_samples = 0
        self.end_time: int | None = None  # of the row, in ms, if it was FINISHED before this stage

    def curve(self, rows: Rows) -> None:
        """Logs points of the stage's curves: each row has `iteration` and values by name."""
        self._attempt(lambda: records.curves(self.store, self.child, self.parent, self.stage, rows))
        self._attempt(self._log_system_metrics)

    def tag(self, **tags: str) -> None:
        """Sets tags on the child; __ in a name stands for a dot."""
        self._attempt(lambda: self.store.tag(self.child, {k.replace("__", "."): v for k, v in tags.items()}))

    def artifact(self, path: Path, folder: str | None = None, *, shared: bool = True) -> None:
        """Logs a file as an artifact of the child and, if `shared`, of the parent."""
        for run in (self.child, self.parent) if shared else (self.child,):
            self._attempt(lambda run=run: self.store.client.log_artifact(run, str(path), folder))  # type: ignore[misc]

    def text(self, content: str, name: str) -> None:
        """Logs text as an artifact of the child."""
        self._attempt(lambda: self.store.client.log_text(self.child, content, name))

    def scores(self, values: Mapping[str, float]) -> None:
        """Logs final scores on the child and on the experiment's row, and for the nets of `evaluates`."""
        val, test = self.splits.get("val"), self.splits.get("test")
        self._attempt(lambda: self.store.scores(self.child, values, None, self.models, val, test))
        self._attempt(lambda: self.store.scores(self.parent, values))

    def data(self, folder: Path, **contexts: str) -> None:
        """Logs packed splits as inputs of child and row, for an evaluation also the held-out one; and image counts.

        contexts   what each split is used for, by name: val="evaluation"
        """
        self._attempt(lambda: self._log_data(folder, contexts))

    def _log_data(self, folder: Path, contexts: Mapping[str, str]) -> None:
        self.splits = {role: datasets.read(folder, role, self.dataset, use) for role, use in contexts.items()}
        if "evaluation" in contexts.values():
            test = datasets.held_out(self.dataset)
            self.splits |= {"test": test} if test else {}
        indexes = [folder / f"{split}.csv" for split in ("train", "val")]
        self.store.tag(self.parent, records.images(*(path.read_bytes() for path in indexes)))
        for run in (self.child, self.parent):
            self.store.datasets(run, list(self.splits.values()))

    def model(self, path: Path) -> None:
        """Logs the net that this stage wrote: its digest on the child, and a model, without its weights."""
        digest = files.sha256(path)
        self.tag(model__sha256=digest, model__path=path.as_posix())
        self._attempt(lambda: self._add_model(path, digest))

    def _add_model(self, path: Path, digest: str) -> None:
        tags = records.model_tags(self.stage, path.as_posix(), list(self.splits.values()))
        made = self.store.client.get_run(self.child), self.store.client.get_run(self.parent)
        with store.locked():
            logged_models.add(self.store, path.stem, digest, tags, identity.flat(self.declared), made)

    def evaluates(self, path: Path) -> None:
        """Logs that this stage scores a net. `fcn sync` adds the scores of nets that the store does not have yet."""
        digest = files.sha256(path)
        self.tag(**{f"{path.stem}__sha256": digest})
        self._attempt(lambda: self._find_model(path, digest))

    def _find_model(self, path: Path, digest: str) -> None:
        model = logged_models.find(self.store, path.stem, digest)
        if model is not None:
            self.models[path.stem] = model
            logged_models.evaluated(self.store, self.child, {path.stem: model})

    def images(self, pictures: "Mapping[tuple[str, int], Image.Image]") -> None:
        """Logs pictures, by key and step, on the experiment's row, where MLflow's image grid compares experiments."""
        self._attempt(lambda: image_grid.add(self.store, self.parent, pictures))

    def _attempt(self, action: Callable[[], object]) -> None:
        if not self.enabled:
            return
        try:
            action()
        except Exception as error:  # any error of the store, its driver or its network
            self.enabled = False
            cause: BaseException = error
            while cause.__cause__ is not None:  # the outer exceptions only mention SQL sessions and statements
                cause = cause.__cause__
            reason = store.reason(cause)
            print(f"warning: MLflow tracking is off for this stage ({store.safe_address()}: {reason})", file=sys.stderr)

    def _log_system_metrics(self) -> None:
        if self.system_metrics is None:
            return
        rows = [row | {"iteration": self.num_samples + i} for i, row in enumerate(self.system_metrics.drain())]
        self.num_samples += len(rows)
        self.store.points(self.child, rows)

    def open(self, params: Params, declared: Mapping[str, object], fingerprint: str) -> None:
        """Finds or creates the experiment's row and this stage's child, under the store's lock."""
        lock = dvc_lock.read()
        experiment = Experiment(params.model_dump(), identity.code(), identity.name(), dvc_lock.packed(lock))
        self.dataset, self.declared = experiment.dataset, declared
        now = str(int(time.time() * 1000))
        with store.locked():
            self.store = Store()
            self.parent = records.row(self.store, experiment, self.stage, fingerprint, records.origin())
            self.child = self._resume(fingerprint, now) or self._create(declared, fingerprint)
            if self.lock is None:
                self.lock = locks.acquire(records.lock_file(self.child))
            self._close_abandoned(experiment)
            row = self.store.client.get_run(self.parent).info
            self.end_time = row.end_time if row.status == "FINISHED" else None
            self.store.tag(self.parent, {records.OPENED: now, records.OWNER: records.owner()})
        for run in (self.child, self.parent):
            self.store.client.update_run(run, "RUNNING")
        self.num_samples = 1 + self.store.last_steps(self.child).get("system/cpu_utilization_percentage", -1)
        self.system_metrics = SystemMetrics()

    def _resume(self, fingerprint: str, now: str) -> str:
        """The existing child with this fingerprint in this checkout, whatever its status; empty if there is none.

        It is reused, so that one result has one run.
        """
        for run in records.children(self.store, self.parent, self.stage):
            tags = run.data.tags
            if tags.get("fingerprint", "") != fingerprint or tags.get(store.LOCATION) != machine.location_digest():
                continue
            if lock := locks.acquire(records.lock_file(run.info.run_id)):
                self.lock = lock
                if run.info.status == "FINISHED":
                    self.store.tag(run.info.run_id, {"fcn.began": now})
                return str(run.info.run_id)
        return ""

    def _create(self, declared: Mapping[str, object], fingerprint: str) -> str:
        tags = {store.LOCATION: machine.location_digest(), **({"fingerprint": fingerprint} if fingerprint else {})}
        tags |= records.origin() | records.environment()
        return records.child(self.store, self.parent, self.stage, declared, tags)

    def _close_abandoned(self, experiment: Experiment) -> None:
        """Closes runs of this stage that a kill left RUNNING in the experiment's other rows.

        They will not be resumed any more.
        """
        for row in records.rows(self.store, experiment):
            for run in records.children(self.store, row.info.run_id, self.stage):
                local = run.data.tags.get(store.LOCATION) == machine.location_digest() and run.info.status == "RUNNING"
                if local and (lock := locks.acquire(records.lock_file(run.info.run_id))):
                    with lock:
                        self.store.close(run.info.run_id, "KILLED")
                        if row.info.run_id != self.parent and row.info.status == "RUNNING":
                            self.store.close(row.info.run_id, "KILLED")

    def close(self, status: str) -> None:
        """Closes the run as FINISHED, FAILED or KILLED. The row stays RUNNING until its report is FINISHED."""
        if self.system_metrics is not None:
            self.system_metrics.stop()
            self._attempt(self._log_system_metrics)
        for close in (self._close_child, self._close_row):
            self.enabled = True  # try again after an earlier failure, so that no run stays RUNNING
            self._attempt(lambda close=close: close(status))  # type: ignore[misc]
        if self.lock is not None:
            Path(self.lock.name).unlink(missing_ok=True)
            self.lock.close()

    def _close_child(self, status: str) -> None:
        if self.child:
            self.store.close(self.child, status)

    def _close_row(self, status: str) -> None:
        """Closes the row. A row that was FINISHED before keeps its end time.

        DVC runs report again whenever it restores the other stages, perhaps weeks later.
        """
        if not self.parent:
            return
        reports = records.children(self.store, self.parent, records.STAGES[-1])
        if status != "FINISHED" or any(run.info.status == "FINISHED" for run in reports):
            self.store.close(self.parent, status, self.end_time if status == "FINISHED" else None)


@contextmanager
def stage(name: str, params: Params, declared: Mapping[str, object], fingerprint: str = "") -> Iterator[Run]:
    """Tracks a stage in MLflow: its run ends FINISHED, FAILED after an error, or KILLED after a signal.

    An earlier run of the stage is resumed only if it has the same fingerprint.

    fingerprint   digest of everything that the stage's result depends on
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
