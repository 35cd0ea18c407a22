"""The experiments of a scale: planned, run as one group, and read back."""

import csv
import io
import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fcn.experiments import group, precheck
from fcn.experiments.group import Planned
from fcn.experiments.history import Snapshot
from fcn.experiments.running_row import Row as RunningRow
from fcn.paper.findings import Finding, Row
from fcn.paper.scales import Scale
from fcn.runtime.errors import UserError, counted
from fcn.tracking.identity import Experiment

CLASSES = "classes"  # name of the mean IU of a finding's own classes


@dataclass(frozen=True)
class Members:
    """The planned experiments of a scale by variant, each with every seed.

    name      of the group; contains a digest of all variants and of the code
    planned   by variant, in the order of the scale; equal variants share their experiments
    """

    name: str
    planned: dict[str, list[Planned]]

    @classmethod
    def plan(cls, scale: Scale, findings: Sequence[Finding], seeds: int) -> "Members":
        """The experiments that findings need, with the seed of the recipe and those after it.

        raises   UserError if a recipe is invalid
        """
        if seeds < 2:
            raise UserError(f"{counted(seeds, 'seed')} have no spread; write at least 2")
        inputs = group.workspace_inputs()
        params = {name: variant.params() for name, variant in scale.variants.items()}
        values = {name: one.model_dump() for name, one in params.items()}
        group_name = f"paper-{scale.name}-{Experiment(values, inputs).key[:7]}"
        needed = {row.variant for finding in findings for row in finding.rows}
        planned: dict[str, list[Planned]] = {}
        for name, one in params.items():
            if name not in needed:
                continue
            if equal := next((other for other in planned if params[other] == one), None):
                planned[name] = planned[equal]
            else:
                planned[name] = [
                    Planned(f"{group_name}-{name}-{seeded.seed}", group.changes_to(seeded), seeded, inputs)
                    for seeded in (one.model_copy(update={"seed": one.seed + i}) for i in range(seeds))
                ]
        return cls(group_name, planned)

    @property
    def all(self) -> list[Planned]:
        return list({one.name: one for planned in self.planned.values() for one in planned}.values())

    def run(self, jobs: int) -> list[str]:
        """Runs what is not finished, with one row of MLflow over all.

        returns   names of the experiments that failed
        raises    UserError if an experiment cannot run; KeyboardInterrupt after Ctrl-C
        """
        for planned in self.planned.values():
            for line in precheck.check(planned[0].params):
                print(line)
        row, status = RunningRow(self.name, [one.params for one in self.all]), "KILLED"
        states: list[Snapshot] = []

        def finished(state: Snapshot) -> None:
            states.append(state)
            row.add(state)

        try:
            failed = list(group.run(self.all, jobs, finished))
            status = "FAILED" if failed else "FINISHED"
        finally:
            row.close(status, states)
        return failed

    def results(self) -> dict[str, list[Snapshot]]:
        """The finished experiments of each variant whose seeds are all finished."""
        found = {name: [group.result(one) for one in planned] for name, planned in self.planned.items()}
        return {name: [state for state in states if state] for name, states in found.items() if all(states)}


def values(states: Sequence[Snapshot], net: str, row: Row, score: str) -> list[float]:
    """A score of a row for each seed, in per cent."""
    return [100 * state.scores[f"{net}.{row.task}{score}"] for state in states]


def class_values(states: Sequence[Snapshot], net: str, classes: Sequence[str]) -> list[float]:
    """The mean IU of some classes for each seed, in per cent."""
    found = []
    for state in states:
        table = csv.DictReader(io.StringIO(state.content["metrics/classes.csv"].decode()))
        found.append(100 * statistics.mean(float(line[net]) for line in table if line["class"] in classes))
    return found


def describe(scale: Scale, members: Members) -> Iterator[str]:
    """Yields a line for each variant: the recipe and its changes, and the estimated time of its training."""
    from fcn.datasets import sources
    from fcn.experiments import plan
    from fcn.ladder import STRIDES
    from fcn.rungs import cost

    speed, total = cost.measured_speed(), 0.0
    for name, planned in members.planned.items():
        params, variant = planned[0].params, scale.variants[name]
        height, width, _ = plan.image_size(params)
        classes = len(sources.labels(params.data).names)
        trained = [stride for stride in STRIDES if params.rung(stride).iterations]
        flops = [cost.rung_flops(params, s, cost.forward_flops(params, classes, s, height, width)) for s in trained]
        seconds = sum(flops) / speed
        total += seconds * len(planned)
        steps = " + ".join(str(params.rung(stride).iterations) for stride in STRIDES)
        length = f"{steps} steps of {params.batch_size}, each about {cost.duration(seconds)}"
        yield f"{name}: {counted(len(planned), 'seed')}, {length}"
        yield (
            "  fcn recipe "
            + variant.recipe
            + " && dvc exp run"
            + "".join(f" -S {shlex.quote(change)}" for change in (*variant.changes, f"seed={params.seed}"))
        )
    yield (
        f"{counted(len(members.all), 'experiment')}; training takes about {cost.duration(total)} here, at "
        f"{speed / 1e9:.0f} GFLOP/s as measured now; start-up and scoring of each come on top"
    )
