"""What `fcn compare` compares: experiments found by name among DVC experiments, commits, recipes and rows of MLflow."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fcn import params
from fcn.experiments import history
from fcn.experiments.history import Snapshot
from fcn.experiments.recipe import RECIPES
from fcn.ladder import GEOMETRIC, HELD_OUT, NETS, SCORES
from fcn.pipeline import dvc_lock
from fcn.runtime import documents
from fcn.runtime.commands import git
from fcn.runtime.errors import UserError, printable
from fcn.tracking import groups, identity, records, store

WORKSPACE = "workspace"
SHORT = 20  # characters of a name in a table
HASH = re.compile(r"[0-9a-f]{40}")  # of a commit
KINDS = {"": "", GEOMETRIC: "geometric ", HELD_OUT: "held-out ", HELD_OUT + GEOMETRIC: "held-out geometric "}
SCORED = [f"{net}.{kind}{score}" for net in NETS for kind in KINDS for score in SCORES]


@dataclass(frozen=True)
class Run:
    """One finished experiment.

    name    for messages and tables
    scores  by `NET.SCORE`, fractions
    params  by dotted key; empty if unknown
    data    md5 of the packed splits; None if unknown
    state   its files; None if only its scores are recorded
    """

    name: str
    scores: Mapping[str, float]
    params: Mapping[str, object]
    data: str | None = None
    state: Snapshot | None = field(default=None, repr=False)

    def is_same(self, other: "Run") -> bool:
        """Whether both are the same experiment: the same recorded run, or the same params, code and results."""
        if self.state is None or other.state is None:
            return self.name == other.name
        one, two = self.state, other.state
        outs = [sorted((out["path"], out["md5"]) for out in state.outs("evaluate")) for state in (one, two)]
        return one.experiment.base == two.experiment.base and outs[0] == outs[1]


@dataclass(frozen=True)
class Side:
    """One or more runs under one name; several are repetitions of one experiment, such as its seeds."""

    name: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        return self.runs[0]

    def values(self, score: str) -> list[float]:
        """A score of each run; empty if a run does not have it."""
        found = [run.scores[score] for run in self.runs if score in run.scores]
        return found if len(found) == len(self.runs) else []


def sides(words: Sequence[str]) -> list[Side]:
    """What the words name.

    words    each a name, or several separated by commas
    raises   UserError if a name is unknown, an experiment has no scores, or two are the same
    """
    found = [_side(word) for word in words]
    if len(found) < 2:
        raise UserError("name two experiments or more: fcn compare A B")
    every = [run for side in found for run in side.runs]
    for i, run in enumerate(every):
        for other in every[:i]:
            if run.is_same(other):
                what = "is named twice" if run.name == other.name else f"is the same experiment as {other.name}"
                raise UserError(f"{run.name} {what}; compare it with another one")
    return found


def _side(word: str) -> Side:
    names = [name for name in word.split(",") if name]
    if not names:
        raise UserError(f"{word!r} names no experiment")
    found = tuple(run for name in names for run in _runs(name))
    if len(found) == 1:
        return Side(found[0].name, found)
    return Side(names[0] if len(names) == 1 else f"{_short(names[0])} + {len(names) - 1}", found)


def _runs(name: str) -> list[Run]:
    """The runs of one name: of the workspace, a DVC experiment, group, recipe, commit or row, in this order.

    raises   UserError if there are none, or a run has no scores
    """
    if groups.searched(name):
        raise UserError(f"{name} is a search, whose trials have different params; compare two of them, {name}-0000")
    if name == WORKSPACE:
        here = history.workspace()
        if here is None:
            raise UserError("the workspace has no results yet; run `dvc repro`")
        return [_of(here, name)]
    if states := history.experiments(name):
        return [_of(states[0], name)]
    members = [other for other in history.names() if re.fullmatch(re.escape(name) + r"-\d+", other)]
    if members:  # as `fcn seeds` names them
        members.sort(key=lambda member: int(member.rpartition("-")[2]))
        return [_of(history.experiments(member)[0], member) for member in members]
    if recorded := _recorded(name):
        return recorded
    if commit := git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"):
        return [_of(_commit(commit.decode().strip(), name), name[:7] if HASH.fullmatch(name) else name)]
    return _row(name)


def snapshot(name: str) -> Snapshot:
    """The files of a DVC experiment or a commit, with or without scores.

    raises   UserError if there is none of this name, or a file is invalid
    """
    states = history.experiments(name)
    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if not states and not commit:
        raise UserError(f"{printable(name)} is neither a DVC experiment nor a commit")
    state = states[0] if states else _commit((commit or b"").decode().strip(), name)
    state.check()
    return state


def _of(state: Snapshot, name: str) -> Run:
    state.check()
    if not state.scores:
        raise UserError(
            f"{name} has no scores: its evaluation did not run, or with other params, code or data; `dvc repro` runs it"
        )
    return Run(name, state.scores, identity.flat(state.values), dvc_lock.packed(state.lock), state)


def _commit(commit: str, name: str) -> Snapshot:
    state = history.snapshot(f"commit {commit[:7]}", commit)
    if state is None:
        raise UserError(f"{name} has no results: commit {commit[:7]} has no dvc.lock")
    return state


def _recorded(name: str) -> list[Run]:
    """The results that `fcn recipe NAME --record` wrote: those of the recipe and of its variants with other seeds."""
    path = RECIPES / f"{name}.results.json"
    if "/" in name or not path.is_file():
        return []
    try:
        results: Any = json.loads(documents.read(path))
        seeds = {text: table for text, table in results["variants"].items() if re.fullmatch(r"seed=\d+", text)}
        tables = {f"seed={int(results['seed'])}": results["scores"]} | seeds
        scores = {text: history.parse_scores(json.dumps(table).encode(), str(path)) for text, table in tables.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path} is not a file of results; `fcn recipe {name} --record` writes it") from None
    recipe = RECIPES / f"{name}.yaml"
    values = params.check(params.parse(documents.read(recipe), str(recipe)), str(recipe)).model_dump()
    return [
        Run(f"recipe {name}, {text}", table, identity.flat(values) | {"seed": int(text.removeprefix("seed="))})
        for text, table in scores.items()
    ]


def _row(name: str) -> list[Run]:
    """The runs of a row in MLflow: an experiment, or those of a group.

    raises   UserError if there is no such row, or more than one
    """
    runs, problem = store.opened()
    if runs is None:
        kinds = "not `workspace`, a DVC experiment, a recorded recipe or a commit"
        raise UserError(f"{printable(name)} is {kinds}, and MLflow cannot be searched: {problem}")
    rows = [run for run in runs.find() if "stage" not in run.data.tags and run.info.run_name == name]
    if not rows and re.fullmatch(r"[0-9a-f]{32}", name):
        rows = [run for run in (runs.get(name),) if run is not None]
    if not rows:
        kinds = "not `workspace`, a DVC experiment, a recorded recipe, a commit or a row in MLflow"
        raise UserError(f"{printable(name)} is {kinds}; `dvc exp list --all-commits` lists the experiments")
    if len(rows) > 1:
        listed = ", ".join(row.info.run_id for row in rows[:3])
        raise UserError(f"{printable(name)} is the name of {len(rows)} rows in MLflow; use an id: {listed}")
    if groups.GROUP in rows[0].data.tags:
        members = runs.find(f"tags.`mlflow.parentRunId` = '{rows[0].info.run_id}'")
        return [_logged(row) for row in reversed(members)]
    return [_logged(rows[0])]


def _logged(row: Any) -> Run:
    """An experiment from its row: from the files that its tags name, or else from what the row shows."""
    tags, name = row.data.tags, str(row.info.run_name)
    commit, experiment = tags.get("fcn.commit", ""), tags.get("dvc.experiment")
    if HASH.fullmatch(commit) and git("cat-file", "-e", commit) is not None:
        return _of(_commit(commit, name), name)
    if experiment and (states := history.experiments(experiment)):
        return _of(states[0], name)
    here = history.workspace()
    if here and here.experiment.key == tags.get(records.KEY) and here.scores:
        return _of(here, name)
    scores = {key: value for key, value in row.data.metrics.items() if key in SCORED}
    if not scores:
        raise UserError(f"{name} has no scores in MLflow; `fcn sync` adds those of finished experiments")
    return Run(name, scores, dict(row.data.params), tags.get(records.DATA))


def _short(name: str) -> str:
    return name if len(name) <= SHORT else f"{name[: SHORT - 1]}…"
