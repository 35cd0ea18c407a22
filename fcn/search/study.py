"""The trials of a search, in a journal of Optuna on disk.

The parameters of a trial are suggested from the seed, its number and the trials before its batch, never from the state
of a random generator, so that a search that was killed suggests what it would have otherwise. A batch is as many trials
as run at once: none of them knows the scores of another. Parameters and results are therefore those of the seed, the
space and the size of a batch, whichever trial of a batch ends first.
"""

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from fcn.search.space import Axis

RANDOM = 5  # trials with random parameters before the first suggested ones, and finished trials before one is pruned
REDRAWS = 20  # times that parameters are drawn again if an earlier trial had them
REASON = "reason"  # attribute of a pruned trial: why


class Study:
    """The trials of a search, by number from 0. One process at a time may use the file.

    batch   number of trials that run at once
    """

    def __init__(self, path: Path, space: Sequence[Axis], seed: int, batch: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.seed, self.batch = space, seed, batch
        self.distributions = {axis.key: axis.values for axis in space}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():  # its process may have been killed while it wrote
            content = path.read_bytes()
            if not content.endswith(b"\n"):
                os.truncate(path, content.rfind(b"\n") + 1)
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
        self.storage = JournalStorage(JournalFileBackend(str(path.absolute())))
        self.stored = optuna.create_study(
            storage=self.storage, study_name=path.stem, direction="maximize", load_if_exists=True
        )

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.stored.get_trials(deepcopy=False)

    def next(self, count: int) -> list[FrozenTrial]:
        """The unfinished trials of the next batch, with their parameters; none if the first `count` are finished."""
        trials = self.trials
        unfinished = [trial.number for trial in trials if not trial.state.is_finished()]
        first = self._first(min([*unfinished, len(trials)]))
        for number in range(len(trials), min(first + self.batch, count)):
            self.stored.add_trial(self._running(self._suggestion(number)))
        return [trial for trial in self.trials[first : min(first + self.batch, count)] if not trial.state.is_finished()]

    def _first(self, number: int) -> int:
        """The first trial of the batch that a trial belongs to."""
        return number - number % self.batch

    def _running(self, params: Mapping[str, object], values: Mapping[int, float] | None = None) -> FrozenTrial:
        return create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(self.distributions),
            intermediate_values=dict(values or {}),
        )

    def _suggestion(self, number: int) -> dict[str, object]:
        first, earlier = self._first(number), self.trials[:number]
        known = [trial if trial.number < first else self._running(trial.params) for trial in earlier]
        study = optuna.create_study(direction="maximize")
        study.add_trials(known)
        for attempt in range(REDRAWS):
            seed = random.Random(f"{self.seed} {number} {attempt}").getrandbits(32)
            study.sampler = TPESampler(seed=seed, n_startup_trials=RANDOM)
            drawn = study.ask(self.distributions).params
            params = {axis.key: axis.rounded(drawn[axis.key]) for axis in self.space}
            if all(trial.params != params for trial in earlier):
                break  # else this draw stays in `study` as a running trial, which the next one avoids
        return params

    def pruned_at(self, number: int, values: Mapping[int, float], last: int) -> int | None:
        """The step at which a trial is pruned: all its values so far are below the median of the finished trials there.

        values   score by step, as far as it is known
        last     step, at which nothing is saved any more
        """
        study, so_far = optuna.create_study(direction="maximize"), dict[int, float]()
        trials = self.trials
        study.add_trials(trials[: self._first(number)])
        for step in sorted(step for step in values if step < last):
            so_far[step] = values[step]
            if MedianPruner(n_startup_trials=RANDOM).prune(study, self._running(trials[number].params, so_far)):
                return step
        return None

    def finish(self, number: int, score: float, values: Mapping[int, float]) -> None:
        """Records the score of a trial, and its values by step."""
        self._report(number, values)
        self.stored.tell(number, score)

    def prune(self, number: int, reason: str, values: Mapping[int, float]) -> None:
        """Records that a trial was stopped, with its values by step until then."""
        trial = self._report(number, values)
        self.storage.set_trial_user_attr(trial, REASON, reason)
        self.stored.tell(number, state=TrialState.PRUNED)

    def _report(self, number: int, values: Mapping[int, float]) -> int:
        trial = self.trials[number]._trial_id
        for step in sorted(values):
            self.storage.set_trial_intermediate_value(trial, step, values[step])
        return trial
