"""A row in MLflow is one training of one experiment on one version of its data, wherever the checkout is."""

import contextlib
import csv
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import screenshots
import yaml
from conftest import ROOT, Checkout
from mlflow.entities import Run
from mlflow_store import STAGES, artifacts, client, points, rows, runs, stages_of, table
from PIL import Image

from fcn.runtime import machine
from fcn.tracking import records

pytestmark = pytest.mark.slow
STAGE = """
import os, sys
from fcn import params
from fcn.tracking import stage_run
stage, fingerprint, first, last, end = sys.argv[1:]
with stage_run.stage(stage, params.load(), {"n": 1}, fingerprint) as run:
    run.curve([{"iteration": i, "loss": float(i)} for i in range(int(first), int(last))])
    if end == "fail": raise SystemError
    if int(end): os.kill(os.getpid(), int(end))
"""


def stage(checkout: Checkout, name: str, fingerprint: str, first: int, last: int, end: str = "0", code: int = 0) -> str:
    return checkout.run("python", "-c", STAGE, name, fingerprint, str(first), str(last), end, code=code)


def statuses(checkout: Checkout) -> list[str]:
    return sorted(row.info.status for row in rows(checkout).values())


def val(checkout: Checkout, net: str) -> list[tuple[int, float]]:
    lines = csv.DictReader(checkout.read(f"metrics/{net}/val.csv").splitlines())
    return [(int(line["iteration"]), float(line["mean_iu"])) for line in lines]


def mean_iu(checkout: Checkout) -> float:
    return float(json.loads(checkout.read("metrics/scores.json"))["fcn8s"]["mean_iu"])


def test_data_that_grew_are_another_row_and_shrunk_again_the_first_one(checkout: Checkout, tmp_path: Path) -> None:
    """Scores and curves of each row are those of its own files; `fcn sync` restores the same from git."""
    folder, rng = tmp_path / "cells", np.random.default_rng(0)
    for i in range(8):
        for kind, picture in (("images", rng.integers(0, 256, (40, 40, 3))), ("masks", rng.integers(0, 2, (40, 40)))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(folder / kind / f"{i}.png")
    checkout.run("fcn", "inspect", str(folder), "--adopt", "cells")
    checkout.run("fcn", "recipe", "own-cells", "--force")
    checkout.set(**{"batch_size": 2, "train.iterations": 4, "train.validate_every": 2})
    checkout.set(**{"finetune.fcn16s.iterations": 2, "finetune.fcn8s.iterations": 2})
    own, later = checkout.folder / "data/own/cells", tmp_path / "later"
    for kind in ("images", "masks"):
        (later / kind).mkdir(parents=True)
        for i in (6, 7):
            (own / kind / f"{i}.png").rename(later / kind / f"{i}.png")
    said: list[tuple[float, list[tuple[int, float]]]] = []
    for state in ("small", "large", "small again"):
        if state == "large":
            shutil.copytree(later, own, dirs_exist_ok=True)
        if state == "small again":
            for path in later.rglob("*.png"):
                (own / path.relative_to(later)).unlink()
        checkout.run("dvc", "repro")
        assert checkout.read("metrics/report.md").startswith("# FCN on cells\n")
        checkout.commit()
        said.append((mean_iu(checkout), val(checkout, "fcn32s")))
    assert said[0] == said[2] != said[1]

    def logged() -> list[tuple[float, list[tuple[int, float]]]]:
        assert {run.data.tags["data"] for run in rows(checkout).values()} == {"cells"}
        assert {name.rpartition("-")[0] for name in rows(checkout)} == {"cells"}
        return [
            (run.data.metrics["fcn8s.mean_iu"], points(checkout, run)["train/val.mean_iu"])
            for run in rows(checkout).values()
        ]

    expected = [(round(score, 4), curve) for score, curve in said[:2]]
    assert sorted(logged()) == sorted(expected)
    assert all(sorted(stages_of(checkout, row)) == STAGES for row in rows(checkout).values())
    before = table(checkout)
    assert " added" not in checkout.run("fcn", "sync")
    assert table(checkout) == before
    (checkout.folder / "mlflow.db").unlink()
    checkout.run("fcn", "sync")
    assert sorted(logged()) == sorted(expected)
    assert rows(checkout).keys() == before.keys()


def test_a_row_from_before_data_counted_is_found_again_if_its_stages_read_these_data(ready: Checkout) -> None:
    """Such rows have a key without data, and as data sets the digest of the folder of packed splits."""
    older = (
        "import sys; from dataclasses import replace\nfrom fcn.experiments import history\n"
        "from fcn.tracking.datasets import Dataset\n"
        "from fcn.tracking.store import Store\n"
        "state = history.workspace(); plain = replace(state.experiment, data=None); store = Store()\n"
        "run = store.create(sys.argv[1], {'fcn.key': plain.key, 'fcn.base': plain.base}, {}, None)\n"
        "digests = [state.experiment.data, *sys.argv[2:]]\n"
        "store.datasets(run, [Dataset('scenes-val', digest, 'data/resized', 'validation') for digest in digests])\n"
    )
    ready.run("python", "-c", older, "one")
    (row,) = rows(ready).values()
    ready.run("fcn", "sync")
    (again,) = rows(ready).values()
    assert again.info.run_id == row.info.run_id
    assert again.data.tags["fcn.key"] != row.data.tags["fcn.key"]
    assert sorted(stages_of(ready, again)) == STAGES
    ready.run("python", "-c", older, "mixed", "other")
    ready.run("fcn", "sync")  # what read other data too is mixed, and stays as it is
    found = rows(ready)
    assert len(found) == 2
    assert not stages_of(ready, found["mixed"])


def test_another_number_of_threads_never_continues_a_killed_training(ready: Checkout) -> None:
    ready.set(**{"train.iterations": 30, "train.validate_every": 2})
    words = yaml.safe_load(ready.read("dvc.yaml"))["stages"]["train"]["cmd"].split()
    ready.terminate(words, "step 4: mean IU", OMP_NUM_THREADS="1")
    ready.run(*words, OMP_NUM_THREADS="2")
    found = {run.info.status: run for run in runs(ready) if run.data.tags.get("stage") == "train"}
    assert sorted(found) == ["FINISHED", "KILLED"]
    whole, row = found["FINISHED"], ready_row(ready, found["FINISHED"])
    assert points(ready, whole)["val.mean_iu"] == val(ready, "fcn32s") == points(ready, row)["train/val.mean_iu"]
    assert whole.data.tags["fingerprint"] != found["KILLED"].data.tags["fingerprint"]
    killed = ready_row(ready, found["KILLED"])
    assert killed.info.run_id != row.info.run_id
    assert killed.info.status == "KILLED"
    assert points(ready, killed)["train/val.mean_iu"] == points(ready, found["KILLED"])["val.mean_iu"]


def test_a_finished_row_that_is_restored_later_keeps_its_duration(checkout: Checkout) -> None:
    stage(checkout, "train", "one", 1, 3)
    stage(checkout, "report", "one", 1, 1)
    (first,) = rows(checkout).values()
    stage(checkout, "report", "one", 1, 1)
    (again,) = rows(checkout).values()
    assert again.info.status == first.info.status == "FINISHED"
    assert (again.info.start_time, again.info.end_time) == (first.info.start_time, first.info.end_time)
    stage(checkout, "report", "one", 1, 1, "fail", code=1)
    (failed,) = rows(checkout).values()
    assert failed.info.status == "FAILED"
    assert failed.info.end_time > first.info.end_time


def ready_row(checkout: Checkout, run: Run) -> Run:
    return client(checkout).get_run(run.data.tags["mlflow.parentRunId"])


def test_a_run_left_by_sigkill_is_closed_when_the_stage_starts_with_another_fingerprint(checkout: Checkout) -> None:
    stage(checkout, "train", "one", 1, 5, str(int(signal.SIGKILL)), code=-9)
    assert statuses(checkout) == ["RUNNING"]
    stage(checkout, "train", "other", 1, 8)
    assert statuses(checkout) == ["KILLED", "RUNNING"]
    trained = {run.data.tags["fingerprint"]: run for run in runs(checkout) if "stage" in run.data.tags}
    assert {name: run.info.status for name, run in trained.items()} == {"one": "KILLED", "other": "FINISHED"}
    assert points(checkout, trained["one"])["loss"] == [(i, float(i)) for i in range(1, 5)]
    assert points(checkout, trained["other"])["loss"] == [(i, float(i)) for i in range(1, 8)]
    stage(checkout, "train", "one", 3, 8)  # the first number of threads again
    assert points(checkout, client(checkout).get_run(trained["one"].info.run_id))["loss"] == [
        (i, float(i)) for i in range(1, 8)
    ]
    assert len(runs(checkout)) == 4


def test_a_stage_that_runs_again_after_its_end_keeps_its_one_run(checkout: Checkout) -> None:
    """DVC was killed before it recorded that evaluate was done, so it runs it again."""
    for _ in range(3):
        for name in ("train", "evaluate"):
            stage(checkout, name, name, 1, 3)
    (row,) = rows(checkout).values()
    assert {name: run.info.status for name, run in stages_of(checkout, row).items()} == {
        "train": "FINISHED",
        "evaluate": "FINISHED",
    }
    stage(checkout, "report", "report", 1, 2, "fail", code=1)
    assert statuses(checkout) == ["FAILED"]
    stage(checkout, "report", "report", 1, 2)
    assert statuses(checkout) == ["FINISHED"]
    assert len(runs(checkout)) == 4


def is_set_up(database: Path) -> bool:
    """Whether a store has the experiment. MLflow's client would create a database that the stage is creating too."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT 1 FROM experiments WHERE name = 'fcn'").fetchall())
    except sqlite3.OperationalError:
        return False


def test_a_row_is_running_until_its_report_is_done(ready: Checkout) -> None:
    ready.set(lr=0.002)
    seen: list[tuple[str, bool]] = []
    with subprocess.Popen(["dvc", "repro"], cwd=ready.folder, env=ready.forking(), stdout=subprocess.DEVNULL) as dvc:
        while dvc.poll() is None:
            if is_set_up(ready.folder / "mlflow.db"):
                for row in rows(ready).values():
                    seen.append((row.info.status, "report" in stages_of(ready, row)))
            time.sleep(0.3)
    assert dvc.returncode == 0
    assert {status for status, reported in seen if not reported} == {"RUNNING"}
    assert statuses(ready) == ["FINISHED"]


def test_an_experiment_that_was_left_before_its_report_is_closed_and_finished_later(ready: Checkout) -> None:
    ready.set(lr=0.002)
    ready.run("dvc", "repro", "train")
    assert statuses(ready) == ["RUNNING"]
    (name,) = rows(ready)
    assert f"experiment {name} is RUNNING, but stopped before its report" in ready.run("fcn", "doctor")
    assert f"experiment {name}: ended before it was finished, now KILLED" in ready.run("fcn", "sync")
    assert rows(ready)[name].info.status == "KILLED"
    ready.run("fcn", "sync")
    assert rows(ready)[name].info.status == "KILLED"
    ready.run("dvc", "repro")
    assert rows(ready)[name].info.status == "FINISHED"


def test_a_row_is_owned_as_long_as_the_dvc_that_ran_its_stage_lives() -> None:
    class Row:
        class data:  # noqa: N801, as MLflow has it
            tags: dict[str, str] = {}  # noqa: RUF012

    with subprocess.Popen(["sleep", "60"]) as process:
        Row.data.tags = {records.OWNER: f"{process.pid} {psutil.Process(process.pid).create_time():.0f}"}
        assert records.is_owned(Row)
        Row.data.tags = {records.OWNER: f"{process.pid} 1000"}  # an earlier process had the same pid
        assert not records.is_owned(Row)
        Row.data.tags = {records.OWNER: f"{process.pid} {time.time():.0f}"}
        process.kill()
        process.wait()
        assert not records.is_owned(Row)
    for nobody in ({}, {records.OWNER: ""}):
        Row.data.tags = nobody
        assert not records.is_owned(Row)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_moved_checkout_finds_its_artifacts_and_a_copy_leaves_the_originals_alone(
    ready: Checkout, tmp_path: Path
) -> None:
    ready.run("fcn", "sync")
    ready.run("fcn", "register")
    (before,) = rows(ready).values()
    names = artifacts(ready, before)
    original = files_of(ready.folder / "mlartifacts")
    copy = Checkout.opened(tmp_path / "a copy")
    shutil.copytree(ready.folder, copy.folder)
    stage(copy, "report", "new", 1, 3)
    copy.run("fcn", "register", "--champion", "--model", "data/weights/fcn16s.safetensors")
    assert files_of(ready.folder / "mlartifacts") == original
    assert files_of(copy.folder / "mlartifacts").items() > original.items()

    moved = Checkout.opened(tmp_path / "moved")
    ready.folder.rename(moved.folder)
    assert "nothing to add" in moved.run("fcn", "sync")
    (row,) = rows(moved).values()
    assert row.info.artifact_uri.startswith((moved.folder / "mlartifacts").as_uri())
    assert artifacts(moved, row) == names
    with screenshots.served(moved.folder, moved.environment()) as link:
        base = link.partition("/#")[0]
        with urllib.request.urlopen(f"{base}/get-artifact?path=report.md&run_uuid={row.info.run_id}") as answer:
            assert answer.read().decode() == moved.read("metrics/report.md")
    assert "was already registered as version 1" in moved.run("fcn", "register")
    for checkout, version in ((moved, 1), (copy, 2)):
        assert answers(checkout).startswith(f"fcn version {version} is served at http://127.0.0.1:")
    assert not ready.folder.exists()


def answers(checkout: Checkout) -> str:
    """The line that `fcn serve` prints when the registered model is loaded."""
    words = [sys.executable, "-m", "fcn", "serve", "--port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(words, cwd=checkout.folder, env=checkout.environment(), **pipes) as process:
        assert process.stdout is not None
        line = next((line for line in process.stdout if "fcn version" in line or "error" in line), "")
        process.terminate()
        process.communicate()
    return str(line)


def test_a_run_that_a_kill_left_before_the_move_is_closed_after_it(ready: Checkout, tmp_path: Path) -> None:
    stage(ready, "train", "one", 1, 5, str(int(signal.SIGKILL)), code=-9)
    moved = Checkout.opened(tmp_path / "moved")
    ready.folder.rename(moved.folder)
    printed = moved.run("fcn", "sync")
    assert "run train: ended before it was finished, now KILLED" in printed


def test_the_place_of_a_checkout_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = set()
    for name in ("one", "other"):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / name))
        places.add(machine.location_digest())
    assert len(places) == 2


@pytest.mark.parametrize(
    ("interpreter", "kept"), [("{}/.venv/bin/python", True), ("/elsewhere/.venv/bin/python", False)]
)
def test_make_replaces_a_virtual_environment_that_was_moved(tmp_path: Path, interpreter: str, kept: bool) -> None:
    """The environment's scripts begin with the path of their interpreter."""
    shutil.copy2(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    script = tmp_path / ".venv/bin/fcn"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!{interpreter.format(tmp_path)}\n")
    subprocess.run(["make", "--dry-run", "lock"], cwd=tmp_path, capture_output=True, check=True)
    assert script.exists() == kept
