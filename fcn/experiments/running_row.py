"""A group's row in MLflow while its experiments run."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from fcn.experiments import group_row, spread, sync
from fcn.experiments.history import Snapshot
from fcn.params import Params
from fcn.runtime import locks, machine
from fcn.tracking import records, store
from fcn.tracking.identity import Experiment
from fcn.tracking.store import Store


class Row:
    """The group's row in MLflow. It is RUNNING while this process lives, and KILLED by `fcn sync` after a SIGKILL.

    An error of the store disables it, with one warning.

    name     of the group
    params   of its experiments, or of one of them if they differ only in their seed
    """

    def __init__(self, name: str, params: Sequence[Params]) -> None:
        self.name, self.run, self.enabled = name, "", True
        self.lock: TextIO | None = None
        self._attempt(lambda: self._open(params))

    def _open(self, params: Sequence[Params]) -> None:
        self.runs = Store()
        experiments = [Experiment(values.model_dump(), {}) for values in params]
        self.run, _ = group_row.opened(self.runs, self.name, experiments, records.origin())
        self.lock = locks.acquire(records.lock_file(self.run))
        self.runs.tag(self.run, {store.LOCATION: machine.location_digest()})
        self.runs.client.update_run(self.run, "RUNNING")

    def add(self, state: Snapshot) -> None:
        """Completes the row of one experiment; DVC may have skipped or restored some of its stages."""
        self._attempt(lambda: sync.mirror(self.runs, state))

    def fill(self, states: Sequence[Snapshot]) -> None:
        """Updates the row from the finished experiments."""
        if states:
            self._attempt(lambda: group_row.fill(self.runs, self.name, states))

    def validations(self, experiment: str, stage: str) -> dict[int, float]:
        """Mean IU on val by step, as far as a stage of a running experiment has logged it; as in its val.csv later."""
        found: dict[int, float] = {}

        def read() -> None:
            for run in self.runs.find(f"tags.`dvc.experiment` = '{experiment}' and tags.stage = '{stage}'")[:1]:
                points = self.runs.client.get_metric_history(run.info.run_id, spread.VAL)
                found.update({point.step: point.value for point in points})

        self._attempt(read)
        return found

    def tag(self, experiment: str, tags: Mapping[str, str]) -> None:
        """Sets tags on an experiment's row, if it has one."""

        def write() -> None:
            for run in filter(records.is_row, self.runs.find(f"tags.`dvc.experiment` = '{experiment}'")):
                self.runs.tag(run.info.run_id, tags)

        self._attempt(write)

    def close(self, status: str, states: Sequence[Snapshot]) -> None:
        """Updates the row from the finished experiments, and closes it."""
        self.fill(states)
        if self.run:
            self._attempt(lambda: self.runs.close(self.run, status))
        if self.lock is not None:
            Path(self.lock.name).unlink(missing_ok=True)
            self.lock.close()

    def _attempt(self, action: Callable[[], object]) -> None:
        if not self.enabled:
            return
        try:
            with store.locked():
                action()
        except Exception as error:  # any error of the store, its driver or its network
            self.enabled = False
            where = f"{store.safe_address()}: {store.reason(error)}"
            print(f"warning: the group is not in MLflow ({where}); `fcn sync` adds it", file=sys.stderr)
