"""MLflow mirrors the files: `fcn sync` adds what it lacks, from dvc.lock, git and DVC's cache."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Checkout
from mlflow_store import STAGES, artifacts, client, inputs, models, points, rows, runs, stages_of, table

from fcn.experiments import leftovers
from fcn.experiments.history import Snapshot
from fcn.tracking import identity
from fcn.tracking.identity import Experiment
from fcn.tracking.system_metrics import SystemMetrics


@pytest.mark.slow
def test_a_store_filled_from_files_says_what_the_stages_said_themselves(finished: Checkout, shown: Checkout) -> None:
    (name,) = (name for name in rows(shown) if name != "lower")
    made = {str(net[:5] + net[6:]) for net in models(shown)}
    assert len(made) == 4  # the experiment shares two of its nets
    # Other tests may have run experiments in `finished`.
    nets = [net for net in models(finished) if str(net[:5] + net[6:]) in made]
    assert [net[0] for net in nets] == ["fcn16s", "fcn32s", "fcn8s"]
    assert all(len(net[-1]) == 4 and net[-2] for net in nets)  # scores, and the runs that made it
    told, rebuilt = rows(finished)[name], rows(shown)[name]
    assert told.data.params == rebuilt.data.params
    assert points(finished, told) == points(shown, rebuilt)
    assert inputs(told) == inputs(rebuilt) != []
    assert artifacts(finished, told) == artifacts(shown, rebuilt) > {"report.html", "figures/predictions.png"}
    images = [name for name in artifacts(finished, told) if name.startswith("images/validation~fcn32s_1_")]
    assert len(images) == 2 * 2  # PNG and thumbnail, after two steps
    assert rebuilt.info.status == "FINISHED"
    before, after = stages_of(finished, told), stages_of(shown, rebuilt)
    assert sorted(before) == sorted(after) == STAGES
    for stage in STAGES:
        assert before[stage].data.params == after[stage].data.params
        assert points(finished, before[stage]) == points(shown, after[stage])
        assert inputs(before[stage]) == inputs(after[stage])
        assert artifacts(finished, before[stage]) == artifacts(shown, after[stage])
        known = [key for key in before[stage].data.tags if key.endswith("sha256")]
        assert {key: after[stage].data.tags[key] for key in known} == {k: before[stage].data.tags[k] for k in known}


@pytest.mark.slow
def test_stages_that_dvc_skipped_are_added_once(shown: Checkout) -> None:
    """Only the learning rate of FCN-8s differs, so the experiment ran only finetune8s, evaluate and report."""
    assert "experiment lower: lower, train, finetune16s added" in shown.read(".fcn/sync.txt")
    assert sorted(stages_of(shown, rows(shown)["lower"])) == STAGES
    before = table(shown)
    again = shown.run("fcn", "sync")
    assert "added" not in again
    assert again.count("nothing to add") == 3  # the experiment, the commit, the workspace
    assert table(shown) == before


@pytest.mark.slow
def test_a_lost_store_comes_back_with_the_same_table_and_says_which_files_are_gone_too(
    shown: Checkout, tmp_path: Path
) -> None:
    copy = Checkout(tmp_path, shown)  # a copy has no store
    assert not (copy.folder / "mlflow.db").exists()
    for lost in (".dvc/cache", "metrics/figures"):
        shutil.rmtree(copy.folder / lost)
    assert "not in the cache here: data/weights/fcn32s.safetensors" in copy.run("fcn", "sync")
    before, after = rows(shown), rows(copy)
    assert after.keys() == before.keys()
    for name, row in after.items():
        assert (row.data.params, row.data.metrics) == (before[name].data.params, before[name].data.metrics)
        assert sorted(stages_of(copy, row)) == STAGES


@pytest.mark.slow
def test_a_killed_run_is_continued_without_logging_a_step_twice_and_an_abandoned_one_is_closed(ready: Checkout) -> None:
    program = (
        "import os, signal, sys\nfrom fcn import params\nfrom fcn.tracking import stage_run\n"
        "first, last, end = map(int, sys.argv[2:])\n"
        "with stage_run.stage(sys.argv[1], params.load(), {'n': 1}) as run:\n"
        "    run.curve([{'iteration': i, 'loss': i / 10} for i in range(first, last)])\n"
        "    print('logged', flush=True)\n"
        "    if end: os.kill(os.getpid(), end)\n"
        "    sys.stdin.readline()\n"
    )

    def log(*words: str) -> "subprocess.Popen[str]":
        command = ["python", "-c", program, *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ready.folder, env=ready.forking(), **pipes)  # type: ignore[call-overload,no-any-return]

    for words in (("train", "1", "5", "9"), ("evaluate", "1", "2", "9")):
        killed = log(*words)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
    log("train", "3", "8", "0").communicate("\n")
    (row,) = rows(ready).values()
    train, evaluate = (stages_of(ready, row)[stage] for stage in ("train", "evaluate"))
    expected = [(i, i / 10) for i in range(1, 8)]
    assert points(ready, train) == {"loss": expected}
    assert points(ready, row)["train/loss"] == expected
    assert (train.info.status, evaluate.info.status, row.info.status) == ("FINISHED", "RUNNING", "RUNNING")
    assert train.data.metrics["system/system_memory_usage_megabytes"] > 0

    alive = log("report", "1", "2", "0")
    assert alive.stdout is not None
    assert alive.stdout.readline() == "logged\n"
    assert "run evaluate is RUNNING, but its process is not" in ready.run("fcn", "doctor")
    ready.set(lr=0.5)
    printed = ready.run("fcn", "sync", "--commits", "0")
    assert printed.count("run evaluate: ended before it was finished, now KILLED") == 1
    assert "the workspace: its dvc.lock is of other params or code; no row" in printed
    assert list(rows(ready)) == [row.info.run_name]
    alive.communicate("\n")
    assert stages_of(ready, row)["report"].info.status == "FINISHED"


@pytest.mark.slow
def test_trace_goes_from_file_digest_or_run_up_to_the_backbone(shown: Checkout) -> None:
    printed = shown.run("fcn", "trace", "data/weights/fcn8s.safetensors")
    names = [line for line in printed.splitlines() if not line.startswith(" ")]
    assert names == [f"{name}.safetensors" for name in ("fcn8s", "fcn16s", "fcn32s", "backbone")]
    digests = re.findall(r"^  sha256 +([0-9a-f]{64})$", printed, re.MULTILINE)
    words = ["sha256sum", *(f"data/weights/{name}" for name in names)]
    assert digests == [line.split()[0] for line in shown.run(*words).splitlines()]
    commit = shown.run("git", "rev-parse", "HEAD").strip()
    lock = yaml.safe_load(shown.read("dvc.lock"))["stages"]
    (data,) = (dep["md5"] for dep in lock["train"]["deps"] if dep["path"] == "data/resized")
    assert printed.count(f"  git       {commit}") == 4
    assert printed.count(f"data/resized, md5 {data} in dvc.lock") == 3
    assert f"  children  fcn8s.safetensors {digests[0][:12]}" in printed
    (run,) = (run for run in runs(shown) if run.data.tags.get("model.sha256") == digests[0])
    assert f"run {run.info.run_id}, finetune8s of scenes-" in printed
    assert shown.run("fcn", "trace", run.data.tags["mlflow.parentRunId"]) == printed
    row = client(shown).get_run(run.data.tags["mlflow.parentRunId"])
    assert shown.run("fcn", "trace", str(row.info.run_name)) == printed
    lower = stages_of(shown, rows(shown)["lower"])["finetune8s"].data.tags["model.sha256"]
    assert lower != digests[0]
    assert "(experiment lower)" in shown.run("fcn", "trace", lower[:10])
    assert "error: no model file and no run" in shown.run("fcn", "trace", "0123456789", code=1)
    (shown.folder / "mlflow.db").rename(shown.folder / "away.db")
    try:
        assert "`fcn sync` rebuilds it" in (alone := shown.run("fcn", "trace", digests[0]))
        assert re.findall(r"sha256 +([0-9a-f]{64})$", alone, re.MULTILINE) == digests
    finally:
        (shown.folder / "away.db").rename(shown.folder / "mlflow.db")


@pytest.mark.slow
def test_doctor_finds_a_sound_checkout_sound_and_says_what_is_bad(ready: Checkout) -> None:
    assert "bad " not in ready.run("fcn", "doctor")
    ready.set(lr=-1)
    printed = ready.run("fcn", "doctor", code=1, FCN_MIRROR="nowhere")
    assert "bad   params.yaml: lr is -1" in printed


def test_prune_removes_old_states_but_nothing_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    old = time.time() - 30 * 86400
    for name in ("old", "used", "new"):
        state = tmp_path / ".fcn/states" / name / "state.safetensors"
        state.parent.mkdir(parents=True)
        state.write_bytes(bytes(2_000_000))
        for path in (state, state.parent):
            os.utime(path, (old, old) if name != "new" else None)
    holder = f"flock .fcn/locks/used -c 'echo held; {sys.executable} -c \"input()\"'"
    (tmp_path / ".fcn/locks").mkdir()
    with subprocess.Popen(["sh", "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        removed = list(leftovers.prune(7.0))
        process.communicate(b"\n")
    assert removed == ["removed .fcn/states/old, 2 MB"]
    assert sorted(path.name for path in (tmp_path / ".fcn/states").iterdir()) == ["new", "used"]


def test_the_key_of_an_experiment_follows_values_code_name_and_data_but_not_the_way_a_number_is_written() -> None:
    one = Experiment({"lr": 1e-5, "data": {"pad": 100}}, {"fcn/a.py": "1"}, None, "d.dir")
    assert one.key == replace(one, values={"data": {"pad": 100.0}, "lr": "1e-05"}).key
    for other in (
        replace(one, values={"lr": 2e-5, "data": {"pad": 100}}),
        replace(one, values={"lr": 1e-5, "data": {"pad": "same"}}),
        replace(one, code={"fcn/a.py": "2"}),
        replace(one, name="mine"),
        replace(one, data="e.dir"),
        replace(one, data=None),
    ):
        assert one.key != other.key
    assert one.base == replace(one, name="mine").base
    assert not identity.same(True, 1)


def test_a_stage_counts_as_current_only_if_all_that_it_read_does(small: Any) -> None:
    """md5 of 'a', 'b' and 'x' from md5sum."""
    a, b, x = (
        "0cc175b9c0f1b6a831c399e269772661",
        "92eb5ffee6ae2fec3ad71c777531578f",
        "9dd4e461268c8034f5c8564e155c67a6",
    )
    d = f"{a}.dir"
    graph = {
        "make": {"cmd": "one", "deps": ["fcn/a.py"], "outs": ["data"]},
        "use": {"cmd": "two ${lr}", "deps": ["data", "fcn/b.py"], "params": ["lr"]},
    }
    lock: dict[str, Any] = {
        "make": {"cmd": "one", "deps": [{"path": "fcn/a.py", "md5": a}], "outs": [{"path": "data", "md5": d}]},
        "use": {
            "cmd": "two 0.001",
            "deps": [{"path": "data", "md5": d}, {"path": "fcn/b.py", "md5": b}],
            "params": {"params.yaml": {"lr": 0.001}},
            "outs": [{"path": "metrics/x.csv", "md5": x}],
        },
    }
    content = {
        "fcn/a.py": b"a",
        "fcn/b.py": b"b",
        "metrics/x.csv": b"x",
        "dvc.yaml": json.dumps({"stages": graph}).encode(),
        "dvc.lock": json.dumps({"stages": lock}).encode(),
        "params.yaml": yaml.safe_dump(small().model_dump()).encode(),
    }
    assert list(Snapshot("s", content, 0).stages) == ["make", "use"]
    assert list(Snapshot("s", content | {"fcn/b.py": b"other"}, 0).stages) == ["make"]
    assert list(Snapshot("s", content | {"metrics/x.csv": b"other"}, 0).stages) == ["make"]
    assert list(Snapshot("s", content | {"fcn/a.py": b"other"}, 0).stages) == []
    changed = yaml.safe_dump(small(lr=0.01).model_dump()).encode()
    assert list(Snapshot("s", content | {"params.yaml": changed}, 0).stages) == ["make"]


def test_system_metrics_are_sampled_in_a_thread_and_drained_once() -> None:
    metrics = SystemMetrics()
    metrics.stop()
    (sample,) = metrics.drain()
    assert 0 <= sample["system/cpu_utilization_percentage"] <= 100
    assert sample["system/system_memory_usage_megabytes"] > 0
    assert metrics.drain() == []
