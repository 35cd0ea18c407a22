"""MLflow's store of runs. Nothing else in this project speaks to MLflow, but for the collectors of `fcn.vitals`."""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fcn import machine
from fcn.errors import bare, first_line, without_credentials

EXPERIMENT = "fcn"
VIEW = "fcn"  # the saved view of the runs table that `fcn ui` opens
BATCH = 1000  # metrics MLflow takes in one call
PARAMS = 100  # and params
# Columns of that table with their widths in pixels: MLflow's names for its own, ours for params and metrics.
FIXED = {"0": 73, "attributes.`Run Name`": 170, "runDateAndNestInfo": 130}
COLUMNS = {
    "params.`data.dataset`": 105,
    "params.`model.backbone`": 130,
    "params.`lr`": 80,
    "metrics.`fcn32s.mean_iu`": 125,
    "metrics.`fcn16s.mean_iu`": 125,
    "metrics.`fcn8s.mean_iu`": 125,
    "attributes.`Dataset`": 220,
    "attributes.`Source`": 80,
}
Rows = Sequence[Mapping[str, float]]


def address() -> str:
    """The tracking store: MLFLOW_TRACKING_URI, else a database in the main checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{machine.root() / 'mlflow.db'}"


def shown() -> str:
    """The tracking store's address for messages, without credentials."""
    return bare(address())


def reason(error: BaseException) -> str:
    """The first line of an error of the store, its driver or its network, without credentials."""
    return without_credentials(first_line(error).replace(address(), shown()))


def exists() -> bool:
    """Whether there is a store to ask; a server is taken at its word."""
    local = address().removeprefix("sqlite:///")
    return local == address() or Path(local).is_file()


def opened() -> "tuple[Store | None, str]":
    """The store if it can be read, else why not."""
    if not exists():
        return None, f"no store at {shown()}; `fcn sync` rebuilds it"
    try:
        return Store(), ""
    except Exception as error:  # whatever a store, its driver or its network can think of
        return None, f"{shown()} cannot be read ({reason(error)})"


@contextmanager
def locked() -> Iterator[None]:
    """One process of this checkout at a time: a new database, or a row, is made once."""
    path = machine.root() / ".fcn" / "mlflow.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Store:
    """The runs of one MLflow experiment. Raises whatever MLflow raises."""

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        if shown() != address():  # at the end of a run MLflow prints the address with its password
            os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):  # after the import, which sets MLflow's own level
            logging.getLogger(noisy).setLevel(logging.WARNING)
        # It logs a traceback of whatever it raises too; that is said once, by us, in a line.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        self.client = MlflowClient(address())
        found = self.client.get_experiment_by_name(EXPERIMENT)
        self.experiment = str(found.experiment_id if found else self._create())
        self._steps: dict[str, dict[str, int]] = {}
        have = found.tags if found else {}
        for tag, value in _experiment_tags().items():
            if have.get(tag) != value:
                self.client.set_experiment_tag(self.experiment, tag, value)

    def _create(self) -> str:
        # A server stores artifacts where it wants to; the local store must not depend on where it was begun.
        place = (machine.root() / "mlartifacts").as_uri() if address().startswith("sqlite") else None
        return str(self.client.create_experiment(EXPERIMENT, place))

    def find(self, condition: str = "") -> list[Any]:
        """All runs that fulfil a condition, newest first."""
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], condition, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def get(self, run: str) -> Any:
        """A run, whatever its experiment; None if there is none of this id."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run)
        except MlflowException:
            return None

    def create(self, name: str, tags: Mapping[str, str], values: Mapping[str, object], began: int | None = None) -> str:
        """A new run with its params; `began` in milliseconds if that was not now."""
        from mlflow.entities import Param

        run = str(self.client.create_run(self.experiment, began, dict(tags), name).info.run_id)
        params = [Param(key, str(value)) for key, value in values.items()]
        for first in range(0, len(params), PARAMS):
            self.client.log_batch(run, params=params[first : first + PARAMS])
        self._steps[run] = {}
        return run

    def points(self, run: str, rows: Rows, prefix: str = "") -> None:
        """Points of curves: each row has `iteration`, perhaps `time` (ms), and values by name.

        What a curve has already is left out: after a kill, some steps are taken a second time.
        """
        from mlflow.entities import Metric

        last, now = self.last(run), int(time.time() * 1000)
        points = [
            Metric(prefix + name, float(value), int(row.get("time", now)), int(row["iteration"]))
            for row in rows
            for name, value in row.items()
            if name not in ("iteration", "time") and row["iteration"] > last.get(prefix + name, -1)
        ]
        for first in range(0, len(points), BATCH):
            self.client.log_batch(run, points[first : first + BATCH])
        for point in points:
            last[point.key] = max(point.step, last.get(point.key, -1))

    def last(self, run: str) -> dict[str, int]:
        """The last step of each of a run's curves."""
        if run not in self._steps:
            history = {
                name: self.client.get_metric_history(run, name) for name in self.client.get_run(run).data.metrics
            }
            self._steps[run] = {name: max(point.step for point in points) for name, points in history.items()}
        return self._steps[run]

    def scores(self, run: str, values: Mapping[str, float], when: int | None = None) -> None:
        """Final values; those that the run says already are not repeated."""
        from mlflow.entities import Metric

        have, now = self.client.get_run(run).data.metrics, int(time.time() * 1000)
        new = [Metric(name, value, when or now, 0) for name, value in values.items() if have.get(name) != value]
        if new:
            self.client.log_batch(run, new)

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        if tags:
            self.client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])

    def dataset(self, run: str, name: str, digest: str, folder: str, context: str) -> None:
        """A packed split as a run's input; a second time changes nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name, digest, "local", json.dumps({"uri": folder}))
        self.client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def artifacts(self, run: str, folder: str | None = None) -> set[str]:
        """Paths of a run's artifacts in one folder."""
        return {artifact.path for artifact in self.client.list_artifacts(run, folder)}

    def close(self, run: str, status: str, when: int | None = None) -> None:
        self.client.set_terminated(run, status, when)


def _experiment_tags() -> dict[str, str]:
    """Makes MLflow open in its view for training, and offers a table with the params and scores that matter.

    MLflow 3.17 keeps a saved view as JSON within JSON; its pages choose their kind by the link, older ones by the tag.
    """
    state = {
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*FIXED, *COLUMNS],
        "columnWidths": FIXED | COLUMNS,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
    }
    view = {"name": "Experiments", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(view),
    }
