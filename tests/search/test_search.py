"""`fcn search`: a space from the command line, suggestions that a kill does not change, pruning, and real trials."""

import json
import math
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Checkout, Fcn
from mlflow.entities import Run
from mlflow_store import runs
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from fcn.experiments import group, group_row, history
from fcn.experiments.history import Snapshot
from fcn.rungs import failure
from fcn.runtime.errors import UserError
from fcn.search import run, space
from fcn.search.run import Search
from fcn.search.space import Axis
from fcn.search.study import Study
from fcn.tracking import groups

SPACE = [
    Axis("lr", "1e-5..1e-1:log", (), FloatDistribution(1e-5, 1e-1, log=True)),
    Axis("weight_decay", "0..1", (), FloatDistribution(0, 1)),
    Axis("batch_size", "4|8|16", (), CategoricalDistribution(("4", "8", "16"))),
]


UNSCORED = "FCN-8s has no score with finetune.fcn8s.iterations: 0 and finetune.fcn8s.init: parent; train it, or name "


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("root")
def test_a_range_is_of_numbers_their_logarithms_or_whole_numbers_and_a_list_has_its_values() -> None:
    texts = ["lr=1e-4..1e-2:log", "weight_decay=0..1e-3", "batch_size=4..16", "train.iterations=10..1000:log"]
    axes, tried = space.parse(
        [*texts, "momentum=0..0.95", "optimizer=adam|sgd", "data.class_weights=0..1", "data.flip=true|false"],
        ["loss=sum"],
    )
    assert [axis.values for axis in axes] == [
        FloatDistribution(0.0001, 0.01, log=True),
        FloatDistribution(0.0, 0.001),
        IntDistribution(4, 16),
        IntDistribution(10, 1000, log=True),
        FloatDistribution(0.0, 0.95),
        CategoricalDistribution(("adam", "sgd")),
        FloatDistribution(0.0, 1.0),
        CategoricalDistribution(("true", "false")),
    ]
    assert [axis.text for axis in axes][:2] == ["1e-4..1e-2:log", "0..1e-3"]
    assert all(params.loss == "sum" for params in tried)
    assert [(params.lr, params.batch_size) for params in tried[:6:2]] == [(1e-4, 8), (1e-3, 8), (1e-3, 4)]
    assert [params.data.flip for params in tried[-2:]] == [True, False]


def test_a_number_that_is_tried_has_four_digits_and_stays_in_its_range() -> None:
    axis = Axis("lr", "", (), FloatDistribution(1.23444e-4, 9.87654e-2))
    assert [axis.rounded(value) for value in (0.0123449, 1.23444e-4, 9.87654e-2)] == [0.01234, 1.23444e-4, 9.87654e-2]
    assert Axis("batch_size", "", (), IntDistribution(1, 99999)).rounded(12345) == 12345


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0", "lr=1e-4..1e-2"], "TRIALS is 0; write 1 or more"),
        (["2", "lr=1e-4..1e-2", "--jobs", "0"], "--jobs is 0; write 1 or more"),
        (["2", "rate=1e-4..1e-2"], "rate=1e-4..1e-2: write KEY=LOW..HIGH or KEY=A|B with a key of params.yaml"),
        (["2", "train=1..2"], "train=1..2: write KEY=LOW..HIGH or KEY=A|B with a key of params.yaml"),
        (["2", "lr=1e-4"], "lr=1e-4: write LOW..HIGH, LOW..HIGH:log or A|B; for a fixed value, -S lr=VALUE"),
        (["2", "lr=1e-4..1e-2:exp"], "lr=1e-4..1e-2:exp: write LOW..HIGH, LOW..HIGH:log or A|B"),
        (["2", "optimizer=adam|adam"], "optimizer=adam|adam: write LOW..HIGH"),
        (["2", "lr=1e-2..1e-4"], "lr=1e-2..1e-4: the first number must be smaller"),
        (["2", "lr=.5..1e999"], "lr=.5..1e999: the first number must be smaller"),
        (["2", "weight_decay=0..1:log"], "weight_decay=0..1:log: the first number must be smaller and above 0"),
        (["2", "lr=0..1"], "params.yaml with -S lr=0: lr is 0"),
        (["2", "momentum=0.5..1"], "params.yaml with -S momentum=1: momentum is 1"),
        (["2", "batch_size=4..8.5"], "params.yaml with -S batch_size=8.5: batch_size is 8.5"),
        (["2", "optimizer=adam|lion"], "params.yaml with -S optimizer=lion: optimizer is 'lion'"),
        (["2", "lr=1e-4..1e-2", "lr=1..2"], "lr=1..2: lr is given twice"),
        (["2", "lr=1e-4..1e-2", "-S", "lr=1"], "lr=1e-4..1e-2: lr is given twice"),
        (["2", "lr=1e-4..1e-2", "-S", "rate=1"], "-S rate=1: write KEY=VALUE with a key of params.yaml"),
        (["2", "data.splits.val=val|test"], "data.splits.val=val|test: data.splits.val changes what is scored"),
        (["2", "lr=1e-4..1e-2", "-S", "finetune.fcn8s.iterations=0"], UNSCORED),
        (["2", "finetune.fcn8s.iterations=0..10"], UNSCORED),
        (["2", "data.size.val=64|128"], "data.size.val=64|128: data.size.val changes what is scored"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    fcn: Fcn, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(ROOT)
    out, err, code = fcn("search", *words)
    assert str(code).startswith(f"error: {message}"), (out, err, code)
    assert "\n" not in str(code)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with params.yaml, dvc.yaml and no code, as the current folder, with a store of its own."""
    monkeypatch.chdir(tmp_path)
    for variable in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "params.yaml").write_bytes((ROOT / "recipes" / "scenes.yaml").read_bytes())
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    for folder in ("fcn", "stages"):
        (tmp_path / folder).mkdir()
    for words in (["init"], ["add", "params.yaml", "dvc.yaml"], ["commit", "--message", "x"]):
        user = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *user, *words], check=True, capture_output=True)
    return tmp_path


def refused(folder: Path) -> list[object]:
    """`fcn search` with a single trial, whose params do not fit together, although each value fits the default ones."""
    texts, params = ["precision=fp32|bf16", "arithmetic=native|portable"], ["bf16", "portable"]
    axes, _ = space.parse(texts, [])

    def first(seed: int) -> FrozenTrial:
        return Study(folder / f"{seed}.journal", axes, seed, 1).next(1)[0]

    seed = next(seed for seed in range(100) if [*first(seed).params.values()] == params)
    return ["search", 1, *texts, "--seed", seed]


def status(folder: Path) -> str:
    """Of the only row of the folder's store."""
    (row,) = runs(Checkout.opened(folder))
    return str(row.info.status)


def test_a_trial_whose_params_do_not_fit_together_is_pruned_and_no_experiment(fcn: Fcn, repository: Path) -> None:
    words = refused(repository)
    out, _, code = fcn(*words)
    assert code == 0
    reason = "params.yaml: arithmetic: portable needs precision: fp32"
    assert f"-0000: pruned, {reason}" in out
    assert f"\n0000: {reason}" in out
    assert status(repository) == "FINISHED"
    name = re.search(r"search-fcn8s-\w{7}-0000", out)
    assert name
    for experiment in (name[0], "mine"):  # as if it had finished before it was stopped
        subprocess.run(["git", "update-ref", f"refs/exps/ab/{'0' * 38}/{experiment}", "HEAD"], check=True)
    out, _, code = fcn(*words)
    assert code == 0
    assert "1 trial, 1 done" in out
    assert f"\n0000: {reason}" in out
    assert history.names() == ["mine"]


def test_a_search_that_is_interrupted_at_its_start_does_not_stay_running(
    fcn: Fcn, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = refused(repository)
    fcn(*words)

    def interrupt(planned: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(group, "result", interrupt)  # which reads the trials that are finished
    out, _, code = fcn(*words)
    assert code == 130
    assert "goes on" in out
    assert status(repository) == "KILLED"


def test_a_net_that_only_a_range_trains_can_be_searched(repository: Path) -> None:
    path = repository / "params.yaml"
    path.write_text(path.read_text().replace("iterations: 500", "iterations: 0"))
    search = Search.plan(["finetune.fcn8s.iterations=1..10", "lr=1e-4..1e-2"], [], "fcn8s", 1)
    with pytest.raises(UserError, match="FCN-8s has no score"):
        search.check(search.params)
    search.check(search.ends[0])


def test_without_optuna_a_line_says_how_to_install_it(fcn: Fcn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not installed
    _, _, code = fcn("search", "2", "lr=1e-4..1e-2")
    line = "`fcn search` needs optuna, which is not installed; `uv pip install 'optuna>=5,<6'`"
    assert code == f"error: {line}"


@pytest.mark.usefixtures("root")
def test_a_search_has_a_name_of_its_own_for_each_space_seed_and_net_but_not_for_each_number_of_trials() -> None:
    texts = ["lr=1e-4..1e-2:log"]
    search = Search.plan(texts, ["loss=sum"], "fcn8s", 1)
    others = [
        Search.plan(["lr=1e-4..1e-2"], ["loss=sum"], "fcn8s", 1),
        Search.plan(texts, [], "fcn8s", 1),
        Search.plan(texts, ["loss=sum"], "fcn16s", 1),
        Search.plan(texts, ["loss=sum"], "fcn8s", 2),
    ]
    assert Search.plan(texts, ["loss=sum"], "fcn8s", 1) == search
    assert len({one.name for one in (search, *others)}) == 5
    assert Search.plan(texts, ["loss=sum", "lr=0.5"][:1], "fcn8s", 1).experiment(7) == f"{search.name}-0007"
    assert re.fullmatch(r"search-fcn8s-[0-9a-f]{7}", search.name)
    assert (groups.of(search.experiment(7)), groups.searched(search.name)) == (search.name, "fcn8s")
    assert groups.searched("seeds-0123abc") is None
    assert groups.of("paper-tiny-0123abc-adam-1") == "paper-tiny-0123abc"


def value(params: Mapping[str, Any]) -> float:
    """A smooth function with its maximum of 1 at lr 10^-2.7, weight_decay 0.3, batch_size 8."""
    return math.exp(-((math.log10(params["lr"]) + 2.7) ** 2) - ((params["weight_decay"] - 0.3) / 0.3) ** 2) * (
        1.0 if params["batch_size"] == "8" else 0.8
    )


def told(trials: list[FrozenTrial]) -> list[tuple[int, dict[str, Any], float | None]]:
    return [(trial.number, trial.params, trial.value) for trial in trials]


def searched(path: Path, count: int, seed: int = 1, batch: int = 1) -> list[tuple[int, dict[str, Any], float | None]]:
    """Trials of an undisturbed search."""
    study = Study(path, SPACE, seed, batch)
    while trials := study.next(count):
        for trial in trials:
            study.finish(trial.number, value(trial.params), {})
    return told(study.trials)


def test_the_same_seed_suggests_the_same_and_another_one_something_else(tmp_path: Path) -> None:
    one = searched(tmp_path / "one.journal", 12)
    assert len(one) == 12
    assert searched(tmp_path / "other.journal", 12) == one
    assert all(a != b for a, b in zip(one, searched(tmp_path / "third.journal", 12, seed=2), strict=True))
    assert searched(tmp_path / "one.journal", 14)[:12] == one


@pytest.mark.parametrize("batch", [1, 3])
def test_a_search_that_is_killed_suggests_and_finishes_what_it_would_have_otherwise(tmp_path: Path, batch: int) -> None:
    """It is killed after each suggestion and after each result; the trials of a batch end in any order."""
    undisturbed = searched(tmp_path / "undisturbed.journal", 12, batch=batch)
    path, rng, ended = tmp_path / "killed.journal", random.Random(0), list[int]()
    while True:
        waiting = Study(path, SPACE, 1, batch).next(12)
        again = Study(path, SPACE, 1, batch).next(12)
        assert [(trial.number, trial.params) for trial in again] == [(one.number, one.params) for one in waiting]
        if not waiting:
            break
        chosen = rng.choice(waiting)
        ended.append(chosen.number)
        Study(path, SPACE, 1, batch).finish(chosen.number, value(chosen.params), {})
    assert sorted(ended) == list(range(12))  # none twice
    assert told(Study(path, SPACE, 1, batch).trials) == undisturbed


def test_a_journal_that_a_kill_cut_off_or_left_locked_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    before = searched(path, 6)
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"study')
    path.with_name("x.journal.lock").symlink_to(path)
    assert searched(path, 6) == before
    assert len(searched(path, 8)) == 8
    for line in path.read_text().splitlines():
        json.loads(line)


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    before = searched(path, 6)
    content = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            Study(path, SPACE, 1, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == content
    assert told(Study(path, SPACE, 1, 1).trials) == before


def test_fewer_or_more_trials_at_a_time_go_on_with_those_that_were_running(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    running = Study(path, SPACE, 1, 4).next(10)
    Study(path, SPACE, 1, 4).finish(running[1].number, 0.5, {})
    study = Study(path, SPACE, 1, 2)
    assert [trial.params for trial in study.next(10)] == [running[0].params]
    study.finish(0, 0.5, {})
    assert [trial.params for trial in study.next(10)] == [running[2].params, running[3].params]
    assert [trial.number for trial in Study(path, SPACE, 1, 8).next(10)] == [2, 3, 4, 5, 6, 7]
    assert study.next(2) == []


def test_no_parameters_are_tried_twice_while_others_are_left(tmp_path: Path) -> None:
    """Of two lists of three values, the first nine trials have all."""
    axes = [Axis(key, "", (), CategoricalDistribution(("a", "b", "c"))) for key in ("one", "other")]
    study = Study(tmp_path / "x.journal", axes, 1, 1)
    while trials := study.next(10):
        study.finish(trials[0].number, 0.5, {})
    tried = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(tried[:9])) == 9
    assert tried[9] in tried[:9]


def finish(study: Study, values: list[float]) -> None:
    for number, score in enumerate(values):
        (trial,) = study.next(number + 1)
        assert trial.number == number
        study.finish(number, score, {2: score, 4: score + 0.1})


def test_a_trial_below_the_median_of_five_others_at_the_same_step_is_pruned_and_not_repeated(tmp_path: Path) -> None:
    """At step 2 the others have 0.1 … 0.5, median 0.3; at step 4 it is 0.4."""
    few = Study(tmp_path / "few.journal", SPACE, 1, 1)
    finish(few, [0.1, 0.2, 0.3, 0.4])
    few.next(5)
    assert few.pruned_at(4, {2: 0.0}, 6) is None
    study = Study(tmp_path / "x.journal", SPACE, 1, 1)
    finish(study, [0.5, 0.1, 0.4, 0.2, 0.3])
    (trial,) = study.next(7)
    cases: list[tuple[dict[int, float], int | None]] = [
        ({}, None),
        ({2: 0.29}, 2),
        ({2: 0.3}, None),
        ({2: 0.3, 4: 0.39}, 4),
        ({2: 0.29, 4: 0.9}, 2),  # also if it was seen too late
        ({2: 0.41, 4: 0.1}, None),  # its best value so far counts
        ({3: 0.0}, None),  # no other trial has this step
        ({6: 0.0}, None),  # the last one
    ]
    assert [study.pruned_at(trial.number, values, 6) for values, _ in cases] == [step for _, step in cases]
    study.prune(trial.number, "slow", {2: 0.29})
    (following,) = study.next(7)
    assert following.number == 6
    assert study.trials[5].state == TrialState.PRUNED
    assert (study.trials[5].value, study.trials[5].user_attrs) == (0.29, {"reason": "slow"})
    assert study.pruned_at(6, {2: 0.3}, 6) is None  # the pruned one does not lower the median


def test_trials_that_run_at_once_do_not_prune_each_other(tmp_path: Path) -> None:
    study = Study(tmp_path / "x.journal", SPACE, 1, 8)
    for trial in study.next(8)[:7]:
        study.finish(trial.number, 0.9, {2: 0.9})
    assert study.pruned_at(7, {2: 0.1}, 4) is None


OPTIMA = ((-2.7, 0.3), (-3.3, 0.6), (-1.9, 0.45), (-4.2, 0.8))


@pytest.mark.parametrize("optimum", OPTIMA)
def test_a_search_is_not_worse_than_a_grid_of_as_many_trials_on_average_over_five_seeds(
    tmp_path: Path, optimum: tuple[float, float]
) -> None:
    """25 trials, a grid of 5x5 over the same ranges, and a smooth function with its maximum somewhere in between."""

    def score(lr: float, decay: float) -> float:
        return math.exp(-((math.log10(lr) - optimum[0]) ** 2) - ((decay - optimum[1]) / 0.3) ** 2)

    grid = max(score(10 ** (-5 + i), j / 4) for i in range(5) for j in range(5))
    best = []
    for seed in range(1, 6):
        study = Study(tmp_path / f"{seed}.journal", SPACE[:2], seed, 1)
        while trials := study.next(25):
            for trial in trials:
                study.finish(trial.number, score(trial.params["lr"], trial.params["weight_decay"]), {})
        best.append(max(trial.value or 0.0 for trial in study.trials))
    assert sum(best) / 5 >= grid, (best, grid)


def test_the_table_has_the_best_trial_first_and_the_command_that_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    search = Search.plan(["lr=1e-4..1e-2:log", "optimizer=adam|sgd"], ["loss=sum"], "fcn16s", 1)
    monkeypatch.chdir(tmp_path)
    study = Study(tmp_path / "x.journal", search.space, 1, 1)
    (one, *_) = study.next(1)
    study.finish(0, 0.25, {})
    study.next(2)
    study.finish(1, 0.5, {})
    study.next(3)
    study.prune(2, "the loss is nan at step 3", {})
    cells = [[f"{trial.number:04d}", str(trial.params["lr"]), trial.params["optimizer"]] for trial in study.trials]
    title, *lines = list(run.table(search, study.trials))
    assert title == "\nFCN-16s on val, mean IU in per cent"
    assert [line.split() for line in lines[:4]] == [
        ["trial", "mean", "IU", "lr", "optimizer"],
        [cells[1][0], "50.0", *cells[1][1:]],
        [cells[0][0], "25.0", *cells[0][1:]],
        [cells[2][0], "pruned", *cells[2][1:]],
    ]
    lr, optimizer = cells[1][1:]
    assert lines[4:] == [
        "0002: the loss is nan at step 3",
        f"the best is {search.name}-0001; to have it in the workspace:",
        f"  dvc exp apply {search.name}-0001",
        f"  dvc exp run -S loss=sum -S lr={lr} -S optimizer={optimizer}",
    ]
    assert search.changes_of(one) == ("loss=sum", f"lr={cells[0][1]}", f"optimizer={cells[0][2]}")


def test_a_search_takes_a_loss_that_is_not_finite_from_the_error_of_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for what in ("the loss is nan", "the loss is inf", "a weight is not finite"):
        with pytest.raises(UserError) as error:
            failure.stop(what, stage="train", number=12, lr=0.1, images=["a", "b"], facts={})
        match = run.DIVERGED.search(str(error.value))
        assert match
        assert match[0] == f"{what} at step 12"
    assert not run.DIVERGED.search("No space left on device; free some room and run the same command again")


def state(number: int, score: float) -> Snapshot:
    found = Snapshot("x", {}, 0, name=f"search-fcn16s-0123abc-{number:04d}")
    vars(found)["values"] = {"seed": 1}
    vars(found)["scores"] = {"fcn16s.mean_iu": score, "fcn16s.test_mean_iu": 1 - score}
    return found


def test_the_objective_is_mean_iu_on_the_evaluation_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    search = Search.plan(["lr=1e-4..1e-2"], [], "fcn16s", 1)
    assert search.score(state(1, 0.25)) == 0.25
    curve = b"iteration,pixel_accuracy,mean_iu\n2,0.5,0.25\n4,0.5,0.375\n"
    assert search.validations(Snapshot("x", {"metrics/fcn16s/val.csv": curve}, 0)) == {2: 0.25, 4: 0.375}
    assert search.validations(Snapshot("x", {}, 0)) == {}  # it was not trained
    without = state(1, 0.25)
    vars(without)["scores"] = {"fcn8s.mean_iu": 0.5}
    with pytest.raises(UserError, match="x has no fcn16s.mean_iu"):
        search.score(without)
    assert list(group_row.members([state(2, 0.5), state(1, 0.2)])) == ["search-fcn16s-0123abc"]


def test_a_search_is_not_compared_as_if_its_trials_were_repetitions(fcn: Fcn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, _, code = fcn("compare", "search-fcn8s-0123abc", "HEAD")
    assert str(code).startswith("error: search-fcn8s-0123abc is a search, whose trials have different params")


SEARCH = ("search", "3", "lr=1e-3..1e-2:log", "weight_decay=0..1e-3", "-S", "loss=mean")


def begin(checkout: Checkout, number: int, word: str) -> "subprocess.Popen[str]":
    """Starts the search in a process group, and waits until a trial has printed a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fcn", *SEARCH],
        cwd=checkout.folder,
        env=checkout.forking(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not any(word in log.read_text() for log in (checkout.folder / ".fcn/groups").glob(f"*-{number:04d}.log")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def refs(checkout: Checkout) -> dict[str, str]:
    """The commit of each DVC experiment by name."""
    lines = checkout.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/??/**").splitlines()
    return {line.split()[0].rpartition("/")[2]: line.split()[1] for line in lines}


def tried(printed: str) -> dict[str, str]:
    """The parameters of each trial by number, from the lines of the table."""
    table = printed.partition("mean IU in per cent\n")[2]
    return {line.split()[0]: " ".join(line.split()[2:]) for line in table.splitlines() if re.match(r"\d{4}  ", line)}


def rows(checkout: Checkout) -> Iterator[tuple[Run, list[Run]]]:
    """The row of the search, and the rows below it."""
    found = runs(checkout)
    for top in found:
        if groups.GROUP in top.data.tags:
            yield top, [one for one in found if one.data.tags.get("mlflow.parentRunId") == top.info.run_id]


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_same_trials_and_repeats_none(ready: Checkout) -> None:
    with begin(ready, 1, "FCN-32s: ") as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    first = refs(ready)
    assert len(first) == 1
    (journal,) = (ready.folder / ".fcn/search").glob("*.journal")
    assert "now KILLED" in ready.run("fcn", "sync")
    printed = ready.run("fcn", *SEARCH)
    name = journal.stem
    assert f"{name}: 3 trials, 1 done, 1 at a time" in printed
    assert f"{name}-0000: " not in printed
    assert f"{name}-0001: finished in " in printed
    assert refs(ready).items() > first.items()
    assert sorted(refs(ready)) == [f"{name}-{number:04d}" for number in range(3)]

    def score(commit: str) -> float:
        return float(json.loads(ready.run("git", "show", f"{commit}:metrics/scores.json"))["fcn8s"]["mean_iu"])

    scores = {trial: score(commit) for trial, commit in refs(ready).items()}
    best = max(sorted(scores), key=scores.__getitem__)
    assert f"dvc exp apply {best}" in printed

    def check() -> None:
        ((top, below),) = rows(ready)
        assert (top.info.run_name, top.data.tags["best"]) == (name, best)
        assert top.data.metrics == {"fcn8s.mean_iu": round(scores[best], 4)}
        assert sorted(str(one.info.run_name) for one in below) == sorted(scores)
        assert {one.info.status for one in (top, *below)} == {"FINISHED"}

    check()
    ((top, below),) = rows(ready)
    assert "lr" not in top.data.params
    assert top.data.params["batch_size"] == "2"
    assert len({one.data.params["lr"] for one in below}) == 3

    parameters = tried(printed)
    assert len(parameters) == 3
    journal.unlink()  # the suggestions depend on nothing but the seed and the results
    again = ready.run("fcn", *SEARCH)
    assert again.count("finished earlier") == 3
    assert tried(again) == parameters
    (ready.folder / "mlflow.db").unlink()
    assert f"best {best} added" in ready.run("fcn", "sync")
    check()


@pytest.mark.slow
def test_a_trial_below_the_median_is_stopped_while_it_trains(ready: Checkout) -> None:
    """Five made-up trials have a mean IU of 1 at step 2; the sixth would train 100,000 steps."""
    space = ["lr=1e-3..1e-2:log", "-S", "train.iterations=100000", "--net", "fcn32s"]
    ready.run(
        "python",
        "-c",
        "from fcn.search.run import Search\n"
        "study = Search.plan(['lr=1e-3..1e-2:log'], ['train.iterations=100000'], 'fcn32s', 1).study(1)\n"
        "for number in range(5):\n"
        "    study.next(number + 1)\n"
        "    study.finish(number, 1.0, {2: 1.0})\n",
    )
    printed = ready.run("fcn", "search", "6", *space)
    assert re.search(
        r"-0005: pruned, FCN-32s has a mean IU of 0\.\d+ on val at step 2, below the median; 6 of 6", printed
    )
    assert refs(ready) == {}
    ((_, below),) = rows(ready)
    assert [one.info.status for one in below] == ["KILLED"]
    assert below[0].data.tags["pruned"].startswith("pruned, FCN-32s has")
    assert "6 trials, 6 done" in ready.run("fcn", "search", "6", *space)
