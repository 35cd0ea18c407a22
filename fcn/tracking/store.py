"""Access to the MLflow tracking store."""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from fcn.ladder import HELD_OUT
from fcn.runtime import locks, machine
from fcn.runtime.errors import first_line, redacted, without_credentials
from fcn.tracking import table_view
from fcn.tracking.datasets import Dataset

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

EXPERIMENT = "fcn"  # the default name of the experiment that the runs belong to
LOCATION = "fcn.place"  # tag of a stage's run: digest of the checkout that it ran in
METRIC_BATCH = 1000  # metrics that MLflow accepts in one call
PARAM_BATCH = 100  # params that MLflow accepts in one call
DIGITS = 4  # decimals of a score in MLflow's table; metrics/scores.json is not rounded
RESOLUTION = 10**-DIGITS
Rows = Sequence[Mapping[str, float]]


def is_refusal(error: Exception) -> bool:
    """Whether MLflow rejected a value as invalid, rather than failing itself."""
    return getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"


def rounded(value: float) -> float:
    """A score rounded as in MLflow's table."""
    return round(value, DIGITS)


def address() -> str:
    """The tracking URI: MLFLOW_TRACKING_URI, else a SQLite database in the main checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{machine.root() / 'mlflow.db'}"


def experiment_name() -> str:
    """The MLflow experiment that the runs belong to: MLFLOW_EXPERIMENT_NAME, else `fcn`."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def safe_address() -> str:
    """The tracking URI without credentials, for messages."""
    return redacted(address())


def reason(error: BaseException) -> str:
    """The first line of an error of the store, its driver or its network, without credentials."""
    return without_credentials(first_line(error).replace(address(), safe_address()))


def exists() -> bool:
    """Whether the store exists. A server is assumed to exist; nothing is sent to it."""
    database = _database()
    return database is None or database.is_file()


def opened() -> "tuple[Store | None, str]":
    """The store, or None and the reason why it cannot be read."""
    if not exists():
        return None, f"no store at {safe_address()}; `fcn sync` rebuilds it"
    try:
        return Store(), ""
    except Exception as error:  # any error of the store, its driver or its network
        return None, f"{safe_address()} cannot be read ({reason(error)})"


@contextmanager
def locked() -> Iterator[None]:
    """Holds a lock between the processes of this checkout, so that a database or a row is created only once."""
    with locks.locked(machine.root() / ".fcn" / "mlflow.lock"):
        yield


def configure() -> None:
    """Sets MLflow's environment and log levels, and imports it. Call this before any other import of MLflow."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if safe_address() != address():  # otherwise MLflow prints the URI with its password at the end of a run
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    import mlflow  # noqa: F401

    for name in ("mlflow", "alembic"):  # after the import, which sets MLflow's own level
        logging.getLogger(name).setLevel(logging.WARNING)
    # This logger prints a traceback of exceptions that are also raised; we report each in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


class Store:
    """The runs of one MLflow experiment. MLflow's exceptions are passed on."""

    def __init__(self) -> None:
        configure()
        from mlflow import MlflowClient

        self.client = MlflowClient(address())
        existing = self.client.get_experiment_by_name(experiment_name())
        if existing:
            _relocate_artifacts(existing.artifact_location)
        self.experiment = str(existing.experiment_id if existing else self._create())
        self._steps: dict[str, dict[str, int]] = {}
        tags = existing.tags if existing else {}
        for tag, value in table_view.experiment_tags().items():
            if tags.get(tag) != value:
                self.client.set_experiment_tag(self.experiment, tag, value)

    def _create(self) -> str:
        # A server decides where it stores artifacts; those of a local database are in the same folder.
        database = _database()
        location = (database.parent / "mlartifacts").as_uri() if database else None
        return str(self.client.create_experiment(experiment_name(), location))

    def find(self, condition: str = "") -> list[Any]:
        """All runs that match a filter string, newest first."""
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], condition, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def get(self, run: str) -> Any:
        """The run with this id, from any experiment; None if there is none."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run)
        except MlflowException:
            return None

    def create(self, name: str, tags: Mapping[str, str], values: Mapping[str, object], began: int | None = None) -> str:
        """Creates a run with its params. `began` is its start time in milliseconds; by default now."""
        from mlflow.entities import Param

        run = str(self.client.create_run(self.experiment, began, dict(tags), name).info.run_id)
        params = [Param(key, str(value)) for key, value in values.items()]
        try:
            for first in range(0, len(params), PARAM_BATCH):
                self.client.log_batch(run, params=params[first : first + PARAM_BATCH])
        except BaseException:
            self.client.delete_run(run)  # without its params it could be taken for another experiment's run
            raise
        self._steps[run] = {}
        return run

    def points(self, run: str, rows: Rows, prefix: str = "") -> None:
        """Logs points of curves: each row has `iteration`, optionally `time` (ms), and values by name.

        Points that a curve already has are skipped, because some steps are repeated after a kill.
        """
        from mlflow.entities import Metric

        last, now = self.last_steps(run), int(time.time() * 1000)
        points = [
            Metric(prefix + name, float(value), int(row.get("time", now)), int(row["iteration"]))
            for row in rows
            for name, value in row.items()
            if name not in ("iteration", "time") and row["iteration"] > last.get(prefix + name, -1)
        ]
        for first in range(0, len(points), METRIC_BATCH):
            self.client.log_batch(run, points[first : first + METRIC_BATCH])
        for point in points:
            last[point.key] = max(point.step, last.get(point.key, -1))

    def last_steps(self, run: str) -> dict[str, int]:
        """The last step of each of a run's curves, by name."""
        if run not in self._steps:
            history = {
                name: self.client.get_metric_history(run, name) for name in self.client.get_run(run).data.metrics
            }
            self._steps[run] = {name: max(point.step for point in points) for name, points in history.items()}
        return self._steps[run]

    def scores(
        self,
        run: str,
        values: Mapping[str, float],
        when: int | None = None,
        models: Mapping[str, "LoggedModel"] | None = None,
        val: Dataset | None = None,
        test: Dataset | None = None,
    ) -> None:
        """Logs final scores, rounded for the table; unchanged scores are skipped.

        values    by NET.SCORE
        models    nets that the scores are logged for too, by name
        val       the split that they were scored on, if there are models
        test      the held-out split, if there is one: of the scores that begin with HELD_OUT
        """
        from mlflow.entities import Metric

        logged, now = self.client.get_run(run).data.metrics, int(time.time() * 1000)
        new = []
        for name, value in ((name, rounded(value)) for name, value in values.items()):
            net, _, score = name.partition(".")
            dataset = test if score.startswith(HELD_OUT) else val
            model = (models or {}).get(net) if dataset else None
            if model is not None and dataset is not None and dataset.scored(model, name, value):
                model = None
            if model is None and logged.get(name) == value:
                continue
            if logged.get(name) == value:  # only the model lacks it: the run's own point must not be doubled
                point = self.client.get_metric_history(run, name)[-1].timestamp
            else:  # a changed score gets the current time: of several values at one step MLflow shows the latest
                point = now if name in logged else when or now
            facts = (model.model_id, dataset.name, dataset.digest) if model and dataset else ()
            new.append(Metric(name, value, point, 0, *facts))
        if new:
            self.client.log_batch(run, new)

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        if tags:
            self.client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])

    def datasets(self, run: str, datasets: Sequence[Dataset]) -> None:
        """Logs packed splits as inputs of a run. Logging them again changes nothing."""
        from mlflow import entities

        inputs = []
        for split in datasets:
            source = json.dumps({"uri": split.folder})
            entity = entities.Dataset(split.name, split.digest, "local", source, profile=split.profile or None)
            inputs.append(entities.DatasetInput(entity, [entities.InputTag("mlflow.data.context", split.context)]))
        self.client.log_inputs(run, inputs)

    def artifacts(self, run: str, folder: str | None = None) -> set[str]:
        """Paths of a run's artifacts in one folder, by default the top one."""
        return {artifact.path for artifact in self.client.list_artifacts(run, folder)}

    def close(self, run: str, status: str, when: int | None = None) -> None:
        self.client.set_terminated(run, status, when)


def _database() -> Path | None:
    """The database file of a local store; None for a server."""
    path = address().removeprefix("sqlite:///")
    return None if path == address() else Path(path).resolve()


def _relocate_artifacts(old: str) -> None:
    """Updates the artifact URIs in a local database after it was moved or copied with its artifacts.

    MLflow stores absolute URIs, and its client cannot change them. Artifacts that were put elsewhere on purpose keep
    their URIs.

    old   URI of the experiment's artifacts in the database
    """
    database = _database()
    if database is None or not old.startswith("file://") or not old.endswith("/mlartifacts"):
        return
    new, previous = database.parent / "mlartifacts", Path(unquote(urlsplit(old).path))
    moved = new.is_dir() or not previous.is_dir() or previous.with_name(database.name).is_file()
    if previous == new or not moved:
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
    with create_engine(address()).begin() as connection:  # one idempotent transaction
        for column in columns:
            inside = or_(column == old, func.substr(column, 1, len(old) + 1) == f"{old}/")
            new_uri = new.as_uri() + func.substr(column, len(old) + 1)
            connection.execute(update(column.class_).where(inside).values({column: new_uri}))
        if database.parent == machine.root():
            tag: Any = SqlTag
            connection.execute(update(tag).where(tag.key == LOCATION).values(value=machine.location_digest()))
