"""MLflow's store of runs: all that speaks to MLflow but for the collectors of `fcn.tracking.system_metrics`."""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fcn.runtime import machine
from fcn.runtime.errors import bare, first_line, without_credentials

EXPERIMENT = "fcn"
VIEW = "fcn"  # the saved view of the runs table that `fcn ui` opens
PLACE = "fcn.place"  # tag of a stage's run: the checkout that it ran in
BATCH = 1000  # metrics MLflow takes in one call
PARAMS = 100  # and params
# Columns of that table with their widths in pixels: MLflow's names for its own, ours for params and metrics.
FIXED = {"0": 73, "attributes.`Run Name`": 170, "runDateAndNestInfo": 130}
COLUMNS = {
    "metrics.`fcn8s.mean_iu`": 125,
    "metrics.`fcn16s.mean_iu`": 125,
    "metrics.`fcn32s.mean_iu`": 125,
    "tags.`data`": 105,
    "params.`data.size.train`": 125,
    "tags.`steps`": 140,
    "params.`lr`": 80,
    "attributes.`Source`": 80,
}
DIGITS = 4  # of a score in MLflow's table; metrics/scores.json has them all
ROUNDED = 10**-DIGITS
Rows = Sequence[Mapping[str, float]]


def is_refusal(error: Exception) -> bool:
    """Whether MLflow refuses a value, as any store would."""
    return getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"


def rounded(value: float) -> float:
    """A score as MLflow's table has it."""
    return round(value, DIGITS)


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
    database = _database()
    return database is None or database.is_file()


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
        if found:
            _follow(found.artifact_location)
        self.experiment = str(found.experiment_id if found else self._create())
        self._steps: dict[str, dict[str, int]] = {}
        have = found.tags if found else {}
        for tag, value in _experiment_tags().items():
            if have.get(tag) != value:
                self.client.set_experiment_tag(self.experiment, tag, value)

    def _create(self) -> str:
        # A server stores artifacts where it wants to; a local database has them beside it.
        database = _database()
        place = (database.parent / "mlartifacts").as_uri() if database else None
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
        try:
            for first in range(0, len(params), PARAMS):
                self.client.log_batch(run, params=params[first : first + PARAMS])
        except BaseException:
            self.client.delete_run(run)  # without its params it would pass for another's
            raise
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
        """Final values as the table shows them; those that the run says already are not repeated."""
        from mlflow.entities import Metric

        have, now = self.client.get_run(run).data.metrics, int(time.time() * 1000)
        # Of several values of one step MLflow shows the latest.
        new = [
            Metric(name, rounded(value), now if name in have else when or now, 0)
            for name, value in values.items()
            if have.get(name) != rounded(value)
        ]
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


def _database() -> Path | None:
    """The file of a local store; None for a server."""
    path = address().removeprefix("sqlite:///")
    return None if path == address() else Path(path).resolve()


def _follow(old: str) -> None:
    """Makes a local database name the artifacts beside it, after both were moved or copied.

    MLflow keeps absolute addresses, and its client changes none. Artifacts that lie elsewhere on purpose stay there.

    old   address of the experiment's artifacts, as the database has it
    """
    database = _database()
    if database is None or not old.startswith("file://") or not old.endswith("/mlartifacts"):
        return
    new, before = database.parent / "mlartifacts", Path(unquote(urlsplit(old).path))
    moved = new.is_dir() or not before.is_dir() or before.with_name(database.name).is_file()
    if before == new or not moved:
        return
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun, SqlTag
    from sqlalchemy import create_engine, func, or_, update

    columns: tuple[Any, ...] = (
        SqlExperiment.artifact_location,
        SqlRun.artifact_uri,
        SqlLoggedModel.artifact_location,
        SqlModelVersion.source,
        SqlModelVersion.storage_location,
    )
    with create_engine(address()).begin() as connection:  # one transaction, which changes nothing when it is repeated
        for column in columns:
            inside = or_(column == old, func.substr(column, 1, len(old) + 1) == f"{old}/")
            address_now = new.as_uri() + func.substr(column, len(old) + 1)
            connection.execute(update(column.class_).where(inside).values({column: address_now}))
        if database.parent == machine.root():
            tag: Any = SqlTag
            connection.execute(update(tag).where(tag.key == PLACE).values(value=machine.location_digest()))


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
