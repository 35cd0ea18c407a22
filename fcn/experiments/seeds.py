"""`fcn seeds`: an experiment with several seeds, and the spread of its scores."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from fcn.experiments import group, group_row, history, precheck, spread
from fcn.experiments.group import Planned
from fcn.experiments.history import Snapshot
from fcn.experiments.running_row import Row
from fcn.params import Params
from fcn.runtime.errors import UserError, counted
from fcn.tracking import groups
from fcn.tracking.identity import Experiment

FOLDER = Path("metrics/seeds")


def plan(count: int, changes: Sequence[str]) -> tuple[str, list[Planned]]:
    """The group's name, and its experiments: with the seed of params.yaml and the `count` - 1 after it.

    The name contains a digest of params but for the seed, code and the user's own images: what differs in any of them
    is another group.
    """
    if count < 2:
        raise UserError(f"{counted(count, 'seed')} have no spread; write at least 2")
    params, inputs = group.changed(changes), group.workspace_inputs()
    values = {key: value for key, value in params.model_dump().items() if key != "seed"}
    name = f"seeds-{Experiment(values, inputs).key[:7]}"
    return name, [_planned(name, changes, params, inputs, params.seed + i) for i in range(count)]


def _planned(name: str, changes: Sequence[str], params: Params, inputs: Mapping[str, str], seed: int) -> Planned:
    return Planned(f"{name}-{seed}", (*changes, f"seed={seed}"), params.model_copy(update={"seed": seed}), inputs)


def results(name: str, planned: Planned) -> list[Snapshot]:
    """The finished experiments of a group, by seed; also of seeds that an earlier call ran.

    planned   one of its experiments
    """
    members = (member for member in history.names() if groups.of(member) == name)
    seeds = [int(member.rpartition("-")[2]) for member in members]
    others = (_planned(name, planned.changes[:-1], planned.params, planned.inputs, seed) for seed in seeds)
    return spread.by_seed([state for other in others if (state := group.result(other))])


def run(count: int, changes: Sequence[str], jobs: int) -> None:
    """Runs the experiments, prints the spread of their scores, and writes it to metrics/seeds/ and to MLflow.

    raises   UserError if one of them failed; KeyboardInterrupt after Ctrl-C, with a line on how to go on
    """
    name, planned = plan(count, changes)
    for line in precheck.check(planned[0].params):
        print(line)
    first, last = planned[0].params.seed, planned[-1].params.seed
    print(f"{name}: seeds {first} to {last}, {counted(jobs, 'experiment')} at a time", flush=True)
    row, status = Row(name, [planned[0].params]), "FAILED"
    try:
        failed = group.run(planned, jobs, row.add)
        status = "FAILED" if failed else "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        words = ["fcn", "seeds", str(count), *(word for change in changes for word in ("-S", change))]
        words += ["--jobs", str(jobs)] if jobs > 1 else []
        print(f"stopped; `{shlex.join(words)}` goes on", flush=True)
        raise
    finally:
        states = results(name, planned[0])
        row.close(status, states)
    if len(states) > 1:
        table, figure = group_row.write(name, states, FOLDER)
        shown = ", ".join(str(spread.seed(state)) for state in states)
        print(f"\nmean ± standard deviation in per cent over the seeds {shown}\n{spread.text(states)}")
        print(f"wrote {table} and {figure}")
    if failed:
        raise UserError(f"{len(failed)} of {count} experiments failed; see above, then run the same command again")
