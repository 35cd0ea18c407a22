"""`fcn seeds`: the spread of scores over seeds, from a group of DVC experiments that goes on after a kill."""

import csv
import io
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Checkout, Fcn
from mlflow.entities import Run
from mlflow_store import STAGES, artifacts, runs, stages_of

from fcn.experiments import group, group_row, seeds, spread
from fcn.experiments.history import Snapshot
from fcn.figures import charts
from fcn.runtime.errors import UserError
from fcn.tracking import groups

SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")


def finished(seed: int, mean_iu: float, val: str = "", **nets: float) -> Snapshot:
    """An experiment as it is read from git, with the same value for every score of FCN-8s."""
    state = Snapshot("x", {"metrics/fcn8s/val.csv": val.encode()} if val else {}, 0, name=f"seeds-0123abc-{seed}")
    vars(state)["values"] = {"seed": seed}
    vars(state)["scores"] = {f"fcn8s.{score}": mean_iu for score in SCORES} | nets
    outs = [{"path": "metrics/fcn8s/val.csv", "md5": ""}] if val else []
    vars(state)["lock"] = {"train": {}, "finetune16s": {}, "finetune8s": {"outs": outs}}
    return state


def test_a_score_is_given_with_the_mean_and_the_standard_deviation_of_a_sample() -> None:
    """0.1, 0.2 and 0.6: the mean is 0.3, the squared deviations are 0.04, 0.01 and 0.09, divided by 2."""
    found = spread.scores([finished(1, 0.1), finished(2, 0.2), finished(3, 0.6)])
    assert list(found) == [f"fcn8s.{score}" for score in SCORES]
    assert found["fcn8s.mean_iu"].mean == pytest.approx(0.3, abs=1e-12)
    assert found["fcn8s.mean_iu"].sd == pytest.approx(math.sqrt(0.07), abs=1e-12)


def test_the_table_is_in_per_cent_and_has_no_score_for_a_net_that_lacks_one_in_any_seed() -> None:
    states = [finished(1, 0.1, **{"fcn16s.mean_iu": 0.5}), finished(2, 0.2)]
    lines = [line.split() for line in spread.text(states).splitlines()]
    assert lines[1:] == [["FCN-32s", *"————"], ["FCN-16s", *"————"], ["FCN-8s", *(["15.0", "±", "7.1"] * 4)]]


def test_the_csv_has_each_seeds_value_beside_mean_and_deviation() -> None:
    head, *rows = csv.reader(spread.table([finished(3, 0.25), finished(4, 0.75)]).splitlines())
    assert head == ["net", "score", "mean", "sd", "seed 3", "seed 4"]
    assert rows[2] == ["fcn8s", "mean_iu", "0.5", str(math.sqrt(0.125)), "0.25", "0.75"]


def test_curves_are_averaged_step_by_step(tmp_path: Path) -> None:
    one = finished(1, 0.1, "iteration,mean_iu\n2,0.1\n4,0.5\n")
    other = finished(2, 0.1, "iteration,mean_iu\n2,0.3\n4,0.5\n")
    curves = spread.curves([one, other])
    assert list(curves) == ["fcn8s"]
    rows = curves["fcn8s"].to_numpy().tolist()
    assert rows == [pytest.approx([2, 0.2, math.sqrt(0.02)]), pytest.approx([4, 0.5, 0])]
    charts.band(curves, "2 seeds", tmp_path / "band.png")
    assert (tmp_path / "band.png").read_bytes().startswith(b"\x89PNG")


def test_the_name_of_an_experiment_says_its_group() -> None:
    assert groups.of("seeds-0123abc-12") == "seeds-0123abc"
    assert [groups.of(name) for name in (None, "lower", "seeds-0123abc", "seeds-0123abc-x", "my-seeds-0123abc-1")] == [
        None
    ] * 5
    nobody = Snapshot("x", {}, 0, name="lower")
    vars(nobody)["scores"] = {"fcn8s.mean_iu": 0.5}
    older, newer, other = finished(2, 0.2), finished(2, 0.4), finished(1, 0.3)
    assert group_row.members([nobody, older, newer, other]) == {"seeds-0123abc": [other, newer]}


def test_seeds_count_on_from_that_of_the_params_and_share_a_group_whatever_the_first_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    name, planned = seeds.plan(3, ["seed=7", "lr=1e-5"])
    assert [one.name for one in planned] == [f"{name}-{seed}" for seed in (7, 8, 9)]
    assert [one.changes for one in planned] == [("seed=7", "lr=1e-5", f"seed={seed}") for seed in (7, 8, 9)]
    assert [(one.params.seed, one.params.lr) for one in planned] == [(seed, 1e-5) for seed in (7, 8, 9)]
    assert seeds.plan(2, ["lr=0.00001"])[0] == name
    assert seeds.plan(2, ["lr=2e-5"])[0] != name
    assert group.plan(planned[0].name, planned[0].changes) == planned[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["1"], "1 seed have no spread; write at least 2"),
        (["2", "--jobs", "0"], "--jobs is 0; write 1 or more"),
        (["2", "-S", "lr"], "-S lr: write KEY=VALUE with a key of params.yaml"),
        (["2", "-S", "train.lr=1"], "-S train.lr=1: write KEY=VALUE with a key of params.yaml"),
        (["2", "-S", "lr.x=1"], "-S lr.x=1: write KEY=VALUE with a key of params.yaml"),
        (["2", "-S", "lr=1e-3,1e-4"], "params.yaml with -S lr=1e-3,1e-4: lr is '1e-3,1e-4'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    fcn: Fcn, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(ROOT)
    out, err, code = fcn("seeds", *words)
    assert str(code).startswith(f"error: {message}"), (out, err)
    assert "\n" not in str(code)


def test_how_much_is_done_follows_from_the_lines_of_the_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """600, 300 and 500 steps; of 1400, 600 are done when FCN-32s is, which DVC may also have skipped."""
    monkeypatch.chdir(ROOT)
    changes = ("train.iterations=600", "finetune.fcn16s.iterations=300", "finetune.fcn8s.iterations=500")
    log = tmp_path / "log"
    process: Any = None
    running = group._Running(group.plan("x", changes), process, log, 0.0)
    for printed, steps in (
        ("Running stage 'train':\n", 0),
        ("FCN-32s  10/600 steps, loss 2\nFCN-32s  150/600 steps, loss 1\n", 150),
        ("FCN-32s  600/600 steps, loss 2\nFCN-16s  20/300 steps, loss 1\n", 620),
        ("FCN-8s  20/500 steps, loss 1\n", 920),
    ):
        log.write_text(printed)
        assert running.done == pytest.approx(0.9 * steps / 1400)


def test_the_bar_of_several_calls_goes_on_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = group.Progress(2)
    assert group.run([], 1, lambda state: None, progress=progress) == {}
    progress.show([])
    assert "0/2 experiments" in terminal.getvalue()
    progress.close()
    assert terminal.getvalue().endswith("\n")


def begin(checkout: Checkout, number: int, word: str) -> "subprocess.Popen[str]":
    """Starts `fcn seeds 2` in a process group, and waits until experiment `number` has printed a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fcn", "seeds", "2"],
        cwd=checkout.folder,
        env=checkout.forking(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not any(word in log.read_text() for log in logs(checkout, number)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def logs(checkout: Checkout, number: int) -> list[Path]:
    return list((checkout.folder / ".fcn/groups").glob(f"*-{number}.log"))


def refs(checkout: Checkout) -> dict[str, str]:
    """The commit of each DVC experiment by name."""
    lines = checkout.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/??/**").splitlines()
    return {line.split()[0].rpartition("/")[2]: line.split()[1] for line in lines}


def table(checkout: Checkout) -> str:
    (path,) = (checkout.folder / "metrics/seeds").glob("*.csv")
    return path.read_text()


def group_of(checkout: Checkout) -> tuple[Run, dict[str, Run]]:
    """The group's row, and the rows below it by name."""
    found = runs(checkout)
    (top,) = (run for run in found if groups.GROUP in run.data.tags)
    assert "mlflow.parentRunId" not in top.data.tags
    below = [run for run in found if run.data.tags.get("mlflow.parentRunId") == top.info.run_id]
    return top, {str(run.info.run_name): run for run in below}


def check_group(checkout: Checkout) -> None:
    top, below = group_of(checkout)
    name = str(top.info.run_name)
    assert sorted(below) == [f"{name}-1", f"{name}-2"]
    assert {run.info.status for run in (top, *below.values())} == {"FINISHED"}
    assert all(sorted(stages_of(checkout, row)) == STAGES for row in below.values())
    for line in csv.DictReader(table(checkout).splitlines()):
        values = [float(line["seed 1"]), float(line["seed 2"])]
        key = f"{line['net']}.{line['score']}"
        assert [below[f"{name}-{seed}"].data.metrics[key] for seed in (1, 2)] == [round(value, 4) for value in values]
        assert top.data.metrics[key] == round(sum(values) / 2, 4)
        assert top.data.metrics[f"{key}_sd"] == round(abs(values[0] - values[1]) / math.sqrt(2), 4)
    assert "seed" not in top.data.params
    assert top.data.params.items() < below[f"{name}-1"].data.params.items()
    assert top.data.tags["seeds"] == "1, 2"
    assert artifacts(checkout, top) == {f"{name}.csv", f"figures/{name}.png"}


@pytest.mark.slow
def test_a_killed_group_goes_on_repeats_nothing_and_ends_like_an_undisturbed_one(
    ready: Checkout, kept: Checkout, tmp_path: Path
) -> None:
    ready.set(lr=0.01)
    with begin(ready, 1, "FCN-32s: ") as process:
        os.killpg(process.pid, signal.SIGINT)
        printed = process.communicate()[0]
    assert process.returncode == 130, printed
    assert "stopped; `fcn seeds 2` goes on" in printed
    assert refs(ready) == {}
    assert group_of(ready)[0].info.status == "KILLED"

    with begin(ready, 2, "FCN-32s: ") as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    first = refs(ready)
    assert len(first) == 1
    assert group_of(ready)[0].info.status == "RUNNING"
    assert ": ended before it was finished, now KILLED" in ready.run("fcn", "sync")
    printed = ready.run("fcn", "seeds", "2")
    (name,) = first
    assert f"{name}: finished earlier; 1 of 2 done" in printed
    assert "FCN-8s " in printed
    assert refs(ready).items() > first.items()
    check_group(ready)

    undisturbed = Checkout(tmp_path / "undisturbed", kept)
    undisturbed.set(lr=0.01)
    undisturbed.run("fcn", "seeds", "2", "--jobs", "2")
    assert table(undisturbed) == table(ready)
    check_group(undisturbed)
    for name, commit in refs(ready).items():
        mine, theirs = f"{commit}:dvc.lock", f"{refs(undisturbed)[name]}:dvc.lock"
        assert ready.run("git", "show", mine) == undisturbed.run("git", "show", theirs)

    (ready.folder / "mlflow.db").unlink()
    assert "group seeds-" in ready.run("fcn", "sync")
    check_group(ready)
    assert "group" not in ready.run("fcn", "sync")


@pytest.mark.slow
def test_an_experiment_that_fails_stops_no_other_and_the_command_fails_with_a_line_on_it(ready: Checkout) -> None:
    """DVC refuses a name that another experiment of the same commit has."""
    plan = "from fcn.experiments import seeds; print(seeds.plan(2, [])[0])"
    name = ready.run("python", "-c", plan).strip()
    head = ready.run("git", "rev-parse", "HEAD").strip()
    ready.run("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}-1", "HEAD~1")
    printed = ready.run("fcn", "seeds", "2", code=1)
    assert f"{name}-1: failed (Experiment conflicts with existing experiment" in printed
    assert f"{name}-2: finished in " in printed
    assert printed.endswith("error: 1 of 2 experiments failed; see above, then run the same command again\n")


def test_a_damaged_experiment_is_not_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    planned = group.plan("x", ())
    content = {path: Path(path).read_bytes() for path in planned.inputs}
    state = Snapshot("x", content | {"params.yaml": Path("params.yaml").read_bytes()}, 0)
    vars(state)["stages"] = {"report": None}
    assert planned.is_result(state)
    params = Path("params.yaml").read_bytes()
    for change in ({"fcn/ladder.py": b""}, {"params.yaml": params.replace(b"seed: 1", b"seed: 2")}):
        other = Snapshot("x", {**state.content, **change}, 0)
        vars(other)["stages"] = {"report": None}
        assert not planned.is_result(other)
    unfinished = Snapshot("x", state.content, 0)
    vars(unfinished)["stages"] = {"evaluate": None}
    assert not planned.is_result(unfinished)
    with pytest.raises(UserError):
        planned.is_result(Snapshot("x", {**state.content, "params.yaml": b"{"}, 0))
