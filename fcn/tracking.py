"""What MLflow shows of an experiment: a parent run for the whole, a child run for each stage that ran.

Files are the truth and MLflow mirrors them: a store that is locked, full or out of reach costs one
warning, never the stage.
"""

import fcntl
import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fcn import files, machine
from fcn.params import Params

EXPERIMENT = "fcn"
BATCH = 1000  # metrics MLflow takes in one call


def store() -> str:
    """The tracking store: MLFLOW_TRACKING_URI, else a database in the main checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{machine.root() / 'mlflow.db'}"


def experiment_key(params: Params) -> str:
    """What makes two stages belong to one experiment: params, code, graph, and DVC's name for it."""
    code = sorted(p for folder in ("fcn", "stages") for p in Path(folder).rglob("*") if p.suffix in (".py", ".sha256"))
    facts = {
        "params": params.model_dump(),
        "code": {p.as_posix(): files.sha256(p) for p in [*code, Path("dvc.yaml")]},
        "name": os.environ.get("DVC_EXP_NAME"),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested sections as dotted keys."""
    pairs: dict[str, object] = {}
    for key, value in values.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return pairs


class Run:
    """A stage's child run and, above it, the experiment's row. Every method is free to fail, once, aloud."""

    def __init__(self, alive: bool = True) -> None:
        self.alive = alive
        self.child = self.parent = ""

    def curve(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Points of the child's curves: each row has `iteration` and values by name."""
        self._attempt(lambda: self._metrics(self.child, rows))

    def tag(self, **tags: str) -> None:
        """Tags on the child; __ in a name stands for a dot."""
        self._attempt(lambda: self._tags(self.child, tags))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file among the artifacts of child and parent."""
        for run in (self.child, self.parent):
            self._attempt(lambda run=run: self.client.log_artifact(run, str(path), folder))  # type: ignore[misc]

    def text(self, content: str, name: str) -> None:
        """A small text file among the child's artifacts."""
        self._attempt(lambda: self.client.log_text(self.child, content, name))

    def scores(self, values: Mapping[str, float]) -> None:
        """Final values on the child and on the experiment's row."""
        for run in (self.child, self.parent):
            self._attempt(lambda run=run: self._metrics(run, [{"iteration": 0, **values}]))  # type: ignore[misc]

    def data(self, folder: Path, role: str, context: str) -> None:
        """A packed split as the child's input, known by its index's digest."""

        def log() -> None:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            index = folder / f"{role}.csv"
            source = json.dumps({"uri": folder.as_posix()})
            dataset = Dataset(f"{folder.name}-{role}", files.sha256(index)[:32], "local", source)
            tag = InputTag("mlflow.data.context", context)
            self.client.log_inputs(self.child, [DatasetInput(dataset, [tag])])

        self._attempt(log)

    def _attempt(self, action: Callable[[], object]) -> None:
        if not self.alive:
            return
        try:
            action()
        except Exception as error:  # whatever a store, its driver or its network can think of
            self.alive = False
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"warning: MLflow shows no more of this stage ({store()}: {reason})", file=sys.stderr)

    def _metrics(self, run: str, rows: Sequence[Mapping[str, float]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [
            Metric(name, value, now, int(row["iteration"]))
            for row in rows
            for name, value in row.items()
            if name != "iteration"
        ]
        for first in range(0, len(points), BATCH):
            self.client.log_batch(run, points[first : first + BATCH])

    def _tags(self, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(run, tags=[RunTag(name.replace("__", "."), value) for name, value in tags.items()])

    def open(self, stage: str, params: Params, declared: Mapping[str, object]) -> None:
        """Finds or makes the experiment's row and this stage's child, one process at a time."""
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):  # after the import, which sets MLflow's own level
            logging.getLogger(noisy).setLevel(logging.WARNING)
        lock = machine.root() / ".fcn" / "mlflow.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.client = MlflowClient(store())
            found = self.client.get_experiment_by_name(EXPERIMENT)
            self.experiment = found.experiment_id if found else self._create_experiment()
            key = experiment_key(params)
            self.parent = self._find(f"tags.`fcn.key` = '{key}'") or self._create_parent(key, params)
            unfinished = f"tags.`mlflow.parentRunId` = '{self.parent}' and tags.stage = '{stage}' "
            unfinished += f"and tags.`fcn.place` = '{_place()}' and attributes.status = "
            self.child = (
                self._find(f"{unfinished}'RUNNING'")
                or self._find(f"{unfinished}'KILLED'")
                or self._create_child(stage, declared)
            )
        for run in (self.child, self.parent):
            self.client.update_run(run, "RUNNING")

    def close(self, status: str) -> None:
        """FINISHED, FAILED or KILLED: the child for good, the parent until another stage starts."""
        for run in filter(None, (self.child, self.parent)):
            self.alive = True  # a store that failed once may be back, and must not keep a run RUNNING
            self._attempt(lambda run=run: self.client.set_terminated(run, status))  # type: ignore[misc]

    def _find(self, condition: str) -> str:
        runs = self.client.search_runs([self.experiment], condition, max_results=1)
        return str(runs[0].info.run_id) if runs else ""

    def _create_experiment(self) -> str:
        # A server stores artifacts where it wants to; the local store must not depend on where it was begun.
        local = store().startswith("sqlite")
        place = (machine.root() / "mlartifacts").as_uri() if local else None
        return str(self.client.create_experiment(EXPERIMENT, place))

    def _create_parent(self, key: str, params: Params) -> str:
        name, values = os.environ.get("DVC_EXP_NAME"), flat(params.model_dump())
        tags = {"fcn.key": key, **_origin(), **({"dvc.experiment": name} if name else {})}
        run = self.client.create_run(self.experiment, tags=tags, run_name=name or f"{values['data.dataset']}-{key[:7]}")
        self._params(run.info.run_id, values)
        return str(run.info.run_id)

    def _create_child(self, stage: str, declared: Mapping[str, object]) -> str:
        name = os.environ.get("DVC_EXP_NAME")
        tags = {"stage": stage, "fcn.place": _place(), "mlflow.parentRunId": self.parent, **_origin()}
        run = self.client.create_run(
            self.experiment, tags=tags | ({"dvc.experiment": name} if name else {}), run_name=stage
        )
        self._params(run.info.run_id, flat(declared))
        return str(run.info.run_id)

    def _params(self, run: str, values: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(run, params=[Param(key, str(value)) for key, value in values.items()])


@contextmanager
def stage(name: str, params: Params, declared: Mapping[str, object]) -> Iterator[Run]:
    """The run of a stage for as long as it lasts: FINISHED, FAILED after an error, KILLED after a signal.

    A child that a kill left RUNNING is continued.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    run = Run()
    run._attempt(lambda: run.open(name, params, declared))
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        run.close(status)


def _place() -> str:
    """This checkout on this machine, so that another's run is never taken for one that a kill left here."""
    return hashlib.sha256(f"{platform.node()}:{machine.root()}".encode()).hexdigest()


def _origin() -> dict[str, str]:
    """The commit that the code comes from; never the remote's address, which may carry a token."""
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {"mlflow.source.git.commit": answer.stdout.strip()} if answer.returncode == 0 else {}
