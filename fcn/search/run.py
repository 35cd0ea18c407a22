"""`fcn search`: runs the trials of a search, and prints them by score."""

import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from fcn.experiments import backfill, group, history, precheck
from fcn.experiments.group import Planned, Progress
from fcn.experiments.history import Snapshot
from fcn.experiments.running_row import Row
from fcn.ladder import LADDER, Net
from fcn.params import Params
from fcn.runtime import locks, machine
from fcn.runtime.errors import UserError, counted
from fcn.search import space
from fcn.search.space import Axis
from fcn.search.study import REASON, Study
from fcn.tracking import groups
from fcn.tracking.identity import Experiment, flat

LOOK = 5.0  # seconds between two looks at the validations of a running trial
DIVERGED = re.compile(r"(the loss is \S+|a weight is not finite) at step \d+")  # fcn.rungs.failure


@dataclass(frozen=True)
class Search:
    """A search, planned.

    name      of its group; contains a digest of params, space, seed, code and the user's own images
    changes   of params.yaml in all trials, each KEY=VALUE
    params    params.yaml with these changes
    ends      params at both ends of each range and for each value of a list
    inputs    as `Planned.inputs`
    """

    name: str
    net: Net
    changes: tuple[str, ...]
    space: list[Axis]
    seed: int
    params: Params = field(repr=False)
    ends: list[Params] = field(repr=False)
    inputs: Mapping[str, str] = field(repr=False)

    @classmethod
    def plan(cls, texts: Sequence[str], changes: Sequence[str], net: str, seed: int) -> "Search":
        """raises   UserError if a range or a change is not one of params.yaml, or the net would have no score"""
        axes, ends = space.parse(texts, changes)
        params, inputs = group.changed(changes), group.workspace_inputs()
        values = flat(params.model_dump()) | {axis.key: axis.text for axis in axes}
        digest = Experiment(values | {"search.seed": seed}, inputs).key[:7]
        chosen = next(one for one in LADDER if one.name == net)
        planned = cls(f"search-{net}-{digest}", chosen, tuple(changes), axes, seed, params, ends, inputs)
        unscored = [one for one in ends if not planned.is_scored(one)]
        if unscored == ends or (unscored and planned.is_scored(params)):  # else a range is what gives the net a score
            raise UserError(planned.unscored)
        return planned

    def study(self, jobs: int) -> Study:
        return Study(machine.root() / ".fcn" / "search" / f"{self.name}.journal", self.space, self.seed, jobs)

    def experiment(self, number: int) -> str:
        return f"{self.name}-{number:04d}"

    def changes_of(self, trial: FrozenTrial) -> tuple[str, ...]:
        return (*self.changes, *(f"{axis.key}={trial.params[axis.key]}" for axis in self.space))

    def planned(self, trial: FrozenTrial) -> Planned:
        """raises   UserError if params.yaml has changed since the search was planned"""
        if group.changed(self.changes) != self.params:
            raise UserError("params.yaml changed after the first trial was started; run the command again")
        changes = self.changes_of(trial)
        return Planned(self.experiment(trial.number), changes, group.changed(changes), self.inputs)

    def is_scored(self, params: Params) -> bool:
        """Whether the net has a score: it is trained, or initialized from a file."""
        rung = params.rung(self.net.stride)
        return rung.iterations > 0 or rung.init != "parent"

    @property
    def unscored(self) -> str:
        section = self.net.section
        return (
            f"{self.net.title} has no score with {section}.iterations: 0 and {section}.init: parent; train it, or name "
            "another net with --net"
        )

    def check(self, params: Params) -> None:
        """raises   UserError if the params of a trial do not fit together, or the net would have no score"""
        precheck.check_params(params)
        if not self.is_scored(params):
            raise UserError(self.unscored)

    def score(self, state: Snapshot) -> float:
        """The objective: the net's mean IU on the evaluation split.

        raises   UserError if the experiment has none
        """
        key = f"{self.net.name}.mean_iu"
        if key not in state.scores:
            raise UserError(f"{state.label} has no {key}")
        return state.scores[key]

    def validations(self, state: Snapshot) -> dict[int, float]:
        """The net's mean IU on val by step, from a finished experiment's val.csv."""
        path = f"metrics/{self.net.name}/val.csv"
        rows = backfill.curve(state.content.get(path, b""), f"{path} of {state.label}")
        return {int(row["iteration"]): row["mean_iu"] for row in rows}


class _Trials:
    """The trials while they run: records and prunes them."""

    def __init__(self, search: Search, study: Study, row: Row) -> None:
        self.search, self.study, self.row = search, study, row
        self.states: list[Snapshot] = []  # of finished trials
        self.looked: dict[str, float] = {}  # when, by experiment

    def prune(self, planned: Planned, values: Mapping[int, float]) -> str | None:
        """Records a trial as pruned if its validations so far are worse than the median; returns the reason."""
        net = self.search.net
        step = self.study.pruned_at(_number(planned.name), values, planned.params.rung(net.stride).iterations)
        if step is None:
            return None
        reason = f"pruned, {net.title} has a mean IU of {values[step]:.3f} on val at step {step}, below the median"
        self._record(planned.name, reason, {at: value for at, value in values.items() if at <= step})
        return reason

    def look(self, planned: Planned) -> str | None:
        """`prune` for a running trial, every few seconds."""
        if time.monotonic() - self.looked.get(planned.name, 0.0) < LOOK:
            return None
        self.looked[planned.name] = time.monotonic()
        return self.prune(planned, self.row.validations(planned.name, self.search.net.stage))

    def diverge(self, planned: Planned, reason: str) -> None:
        """Records a trial as pruned because its training diverged, unless `prune` would have stopped it before."""
        values = self.row.validations(planned.name, self.search.net.stage)
        if not self.prune(planned, values):
            self._record(planned.name, reason, values)

    def refuse(self, planned: Planned) -> str | None:
        """Records a trial as pruned if its params do not fit together, before it runs; returns the reason."""
        try:
            self.search.check(planned.params)
        except UserError as error:
            self._record(planned.name, str(error), {})
            return str(error)
        return None

    def _record(self, experiment: str, reason: str, values: Mapping[int, float]) -> None:
        self.row.tag(experiment, {groups.PRUNED: reason})
        self.study.prune(_number(experiment), reason, values)

    def forget(self) -> None:
        """Removes the DVC experiments of pruned trials that ended before they could be stopped.

        `fcn sync` knows no other difference between them and the trials that count, if MLflow's tags are lost.
        """
        pruned = [trial.number for trial in self.study.trials if trial.state == TrialState.PRUNED]
        history.remove({self.search.experiment(number) for number in pruned})

    def finish(self, state: Snapshot, planned: Planned) -> None:
        """Records the score of a trial; or that it was pruned, if it ended before it could be stopped."""
        score, values = self.search.score(state), self.search.validations(state)
        self.row.add(state)
        if not self.prune(planned, values):
            self.study.finish(_number(planned.name), score, values)
        self.states.append(state)
        self.row.fill(self.states)


def _number(experiment: str) -> int:
    return int(experiment.rpartition("-")[2])


def run(count: int, texts: Sequence[str], changes: Sequence[str], net: str, seed: int, jobs: int) -> None:
    """Runs the trials that are not finished, and prints all of them by score.

    count    number of trials, with those of earlier calls
    texts    the space, as `fcn.search.space.parse`
    raises   UserError if a trial failed for another reason than its parameters; KeyboardInterrupt after Ctrl-C, with
             a line on how to go on
    """
    search = Search.plan(texts, changes, net, seed)
    for line in precheck.check(search.params):
        print(line)
    lock = locks.acquire(locks.named(search.name))
    if lock is None:
        raise UserError(f"another process is running {search.name}; wait for it, or end it")
    with lock:
        study = search.study(jobs)
        done = [trial for trial in study.trials[:count] if trial.state.is_finished()]
        print(f"{search.name}: {counted(count, 'trial')}, {len(done)} done, {jobs} at a time", flush=True)
        row, status = Row(search.name, search.ends), "FAILED"
        trials = _Trials(search, study, row)
        try:
            with group.interruptible():
                trials.forget()
                trials.states = [state for trial in done if (state := group.result(search.planned(trial)))]
                _run_batches(trials, count, jobs, Progress(count, len(done)))
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            words = ["fcn", "search", str(count), *texts, *(word for one in changes for word in ("-S", one))]
            words += ["--net", net, "--seed", str(seed), "--jobs", str(jobs)]
            print(f"stopped; `{shlex.join(words)}` goes on", flush=True)
            raise
        finally:
            row.close(status, trials.states)
        for line in table(search, study.trials[:count]):
            print(line)


def _run_batches(trials: _Trials, count: int, jobs: int, progress: Progress) -> None:
    """Runs the unfinished trials batch by batch, and closes `progress`."""
    try:
        while batch := trials.study.next(count):
            _run_batch(trials, batch, jobs, progress)
            trials.forget()
    finally:
        progress.close()


def _run_batch(trials: _Trials, batch: Sequence[FrozenTrial], jobs: int, progress: Progress) -> None:
    """Runs the trials of a batch. One whose params do not fit together, or that diverges, is a pruned trial."""
    planned = {one.name: one for one in map(trials.search.planned, batch)}
    for one in list(planned.values()):
        progress.write(f"{one.name}: {' '.join(one.changes)}")
        if reason := trials.refuse(one):
            del planned[one.name]
            progress.finish(f"{one.name}: pruned, {reason}", computed=False)
    failed = group.run(
        list(planned.values()),
        jobs,
        lambda state: trials.finish(state, planned[str(state.name)]),
        trials.look,
        progress,
    )
    diverged = {name: match[0] for name, reason in failed.items() if (match := DIVERGED.search(reason))}
    for name, reason in diverged.items():
        trials.diverge(planned[name], reason)
        progress.finish(f"{name}: pruned, {reason}", computed=True)
    if others := failed.keys() - diverged.keys():
        raise UserError(f"{', '.join(sorted(others))} failed; see above, then run the same command again")


def table(search: Search, trials: Sequence[FrozenTrial]) -> Iterator[str]:
    """Yields the trials by score, best first, then the pruned ones, and the commands that repeat the best."""
    scored = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    ranked = sorted(scored, key=lambda trial: -(trial.value or 0.0))
    lines = [["trial", "mean IU", *(axis.key for axis in search.space)]]
    for trial in [*ranked, *(trial for trial in trials if trial.state == TrialState.PRUNED)]:
        score = f"{100 * trial.value:.1f}" if trial in ranked and trial.value is not None else "pruned"
        lines.append([f"{trial.number:04d}", score, *(str(trial.params[axis.key]) for axis in search.space)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    yield f"\n{search.net.title} on val, mean IU in per cent"
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    for trial in trials:
        if REASON in trial.user_attrs:
            yield f"{trial.number:04d}: {trial.user_attrs[REASON]}"
    if ranked:
        changes = (f"-S {shlex.quote(change)}" for change in search.changes_of(ranked[0]))
        yield f"the best is {search.experiment(ranked[0].number)}; to have it in the workspace:"
        yield f"  dvc exp apply {search.experiment(ranked[0].number)}"
        yield f"  dvc exp run {' '.join(changes)}"
