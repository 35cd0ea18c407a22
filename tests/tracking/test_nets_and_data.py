"""The data sets, nets and pictures of MLflow's pages, in a real store."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import as_checkout
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from PIL import Image

from fcn.data.split import Split
from fcn.params import Params
from fcn.runtime import files, machine
from fcn.tracking import datasets, image_grid, stage_run, store
from fcn.tracking.store import Store

MD5 = {"a": "0cc175b9c0f1b6a831c399e269772661", "b": "92eb5ffee6ae2fec3ad71c777531578f"}  # md5sum


def test_the_digest_of_a_split_is_that_of_its_own_files_only() -> None:
    members = {"val.masks": MD5["b"], "val.csv": MD5["a"], "train.csv": MD5["a"], "classes.json": MD5["a"]}
    listed = (
        f'[{{"md5": "{MD5["a"]}", "relpath": "val.csv"}}, {{"md5": "{MD5["b"]}", "relpath": "val.masks"}}]'.encode()
    )
    expected = subprocess.run(["md5sum"], input=listed, capture_output=True, check=True).stdout.decode().split()[0]
    assert datasets.digest(members, "val") == expected
    assert datasets.digest(members | {"train.csv": MD5["b"]}, "val") == expected
    assert datasets.digest(members | {"val.csv": MD5["b"]}, "val") != expected


def test_the_profile_of_a_split_counts_images_and_gives_fractions_of_pixels() -> None:
    index = b"id,void,pixels:sky,pixels:id\n1,20,60,0\n2,0,20,0\n"
    expected = {"images": 2, "classes": 2, "pixels": 100, "void": 0.2, "share of sky": 1.0, "share of id": 0.0}
    assert json.loads(datasets.profile(index)) == expected
    for damaged in (b"", b"\xff", b"id\n1\n", b"id,void,pixels:a\n1,x,y\n"):
        assert datasets.profile(damaged) == ""


@pytest.fixture
def folder(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with packed splits and a model file."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    as_checkout(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(machine, "root", lambda: folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    shutil.copytree(packed, folder / "data" / "resized")
    (folder / "fcn8s.safetensors").write_bytes(b"weights")
    return folder


def train(experiment: Params) -> None:
    with stage_run.stage("finetune8s", experiment, {"lr": 0.1}, "f") as run:
        run.data(Path("data/resized"), train="training", val="validation")
        run.model(Path("fcn8s.safetensors"))


def evaluate(experiment: Params, mean_iu: float, fingerprint: str = "f") -> None:
    with stage_run.stage("evaluate", experiment, {}, fingerprint) as run:
        run.data(Path("data/resized"), val="evaluation")
        run.evaluates(Path("fcn8s.safetensors"))
        run.scores({"fcn8s.mean_iu": mean_iu})
        run.scores({"fcn8s.test_mean_iu": 0.1})  # on the held-out split, if there is one


def models() -> list[LoggedModel]:
    runs = Store()
    return list(runs.client.search_logged_models([runs.experiment]))


def runs_by_stage() -> dict[str, Run]:
    return {run.data.tags.get("stage", ""): run for run in Store().find()}


def grow(folder: Path, role: str) -> None:
    """Removes the last image of a split's index, so that its digest is another."""
    path = folder / "data" / "resized" / f"{role}.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def test_a_net_has_one_model_with_its_run_data_and_scores_however_often_its_stages_run(
    folder: Path, small: Callable[..., Params]
) -> None:
    for _ in range(2):
        train(small())
        evaluate(small(), 0.12345)
    (model,) = models()
    assert (model.name, model.status, model.model_type, model.params) == ("fcn8s", "READY", "FCN-8s", {"lr": "0.1"})
    assert model.tags["model.sha256"] == files.sha256(folder / "fcn8s.safetensors")
    by_stage = runs_by_stage()
    assert model.source_run_id == by_stage["finetune8s"].info.run_id
    for stage in ("", "finetune8s"):
        assert [output.model_id for output in by_stage[stage].outputs.model_outputs] == [model.model_id]
    evaluated = Store().get(by_stage["evaluate"].info.run_id)  # a search leaves out the models that a run read
    assert [source.model_id for source in evaluated.inputs.model_inputs] == [model.model_id]
    (val,) = (source.dataset for source in by_stage["evaluate"].inputs.dataset_inputs)
    assert (val.name, json.loads(val.profile)["images"]) == ("scenes-val", len(Split(Path("data/resized"), "val")))
    assert val.digest == model.tags["data.validation"]
    assert model.metrics is not None
    (score,) = model.metrics
    assert (score.key, score.value, score.dataset_name) == ("fcn8s.mean_iu", 0.1235, "scenes-val")
    assert (score.dataset_digest, score.run_id) == (val.digest, by_stage["evaluate"].info.run_id)
    assert not list(folder.glob("mlartifacts/**/*.safetensors"))


def test_a_search_for_models_does_not_mix_the_scores_of_different_data(
    folder: Path, small: Callable[..., Params]
) -> None:
    train(small())
    evaluate(small(), 0.5)
    first = models()[0].tags["data.validation"]
    grow(folder, "train")  # the same val
    evaluate(small(), 0.5, "other training split")
    grow(folder, "val")
    evaluate(small(), 0.7, "other val")
    (model,) = models()
    assert model.metrics is not None
    assert sorted((score.dataset_digest == first, score.value) for score in model.metrics) == [
        (False, 0.7),
        (True, 0.5),
    ]
    runs = Store()

    def found(digest: str | None, least: float) -> int:
        data: list[dict[str, Any]] = [{"dataset_name": "scenes-val", "dataset_digest": digest}]
        condition = f"metrics.`fcn8s.mean_iu` >= {least}"
        return len(runs.client.search_logged_models([runs.experiment], condition, datasets=data))

    assert (found(first, 0.5), found(first, 0.6)) == (1, 0)


def test_scores_on_the_held_out_split_are_metrics_of_the_net_on_that_split(
    folder: Path, small: Callable[..., Params]
) -> None:
    test = folder / "data" / "test"
    test.mkdir()
    for path in (folder / "data" / "resized").glob("train.*"):
        shutil.copy2(path, test / path.name.replace("train", "test"))
    for _ in range(2):
        train(small())
        evaluate(small(), 0.5)
    by_stage = runs_by_stage()
    for stage in ("evaluate", ""):
        used = {source.dataset.name: source for source in by_stage[stage].inputs.dataset_inputs}
        assert [tag.value for tag in used["scenes-test"].tags] == ["test"]
        facts = json.loads(used["scenes-test"].dataset.profile)
        assert facts["images"] == len(Split(Path("data/resized"), "train"))
        assert json.loads(used["scenes-test"].dataset.source) == {"uri": "data/test"}
    assert "scenes-test" not in {source.dataset.name for source in by_stage["finetune8s"].inputs.dataset_inputs}
    listed = {path.name: files.md5(path) for path in test.iterdir()}
    (model,) = models()
    found = {(score.key, score.value, score.dataset_name, score.dataset_digest) for score in model.metrics or []}
    assert found == {
        ("fcn8s.mean_iu", 0.5, "scenes-val", model.tags["data.validation"]),
        ("fcn8s.test_mean_iu", 0.1, "scenes-test", datasets.digest(listed, "test")),
    }
    assert len(model.metrics or []) == 2


def test_a_model_that_a_kill_left_unfinished_is_the_one_that_is_finished(
    folder: Path, small: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", die)
        with pytest.raises(KeyboardInterrupt):
            train(small())
    assert [model.status for model in models()] == ["PENDING"]
    train(small())
    assert [model.status for model in models()] == ["READY"]


def test_scores_that_were_logged_before_their_model_are_not_doubled_when_it_gets_them(
    folder: Path, small: Callable[..., Params]
) -> None:
    evaluate(small(), 0.5)
    train(small())
    evaluate(small(), 0.5)
    run = runs_by_stage()["evaluate"]
    assert [point.value for point in Store().client.get_metric_history(run.info.run_id, "fcn8s.mean_iu")] == [0.5]
    assert [score.value for score in models()[0].metrics or []] == [0.5]


def test_pictures_have_the_names_by_which_mlflow_shows_them_and_a_repeated_step_replaces_its_own(
    folder: Path, small: Callable[..., Params]
) -> None:
    key, picture = image_grid.key("fcn8s", "1 Straße/#3"), Image.new("RGB", (300, 20), "red")
    assert key == "validation/fcn8s_1_Stra_e__3"
    for _ in range(2):
        with stage_run.stage("train", small(), {}) as run:
            run.images({(key, 10): picture})
    runs = Store()
    names = sorted(runs.artifacts(run.parent, "images"))
    assert runs.client.get_run(run.parent).data.tags["mlflow.loggedImages"] == "True"
    runs.client.log_image(run.child, picture, key=key, step=10)

    def pattern(name: str) -> str:
        return re.sub(r"timestamp\+\d+\+[0-9a-f-]{36}", "timestamp+TIME+UUID", name)

    assert len(names) == 2
    assert [pattern(name) for name in names] == sorted(map(pattern, runs.artifacts(run.child, "images")))


def test_the_experiment_has_the_name_that_mlflows_variable_gives(
    folder: Path, small: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert store.experiment_name() == "mine"
    assert Store().find() == []
    train(small())
    named = MlflowClient(store.address()).get_experiment_by_name("mine")
    assert named is not None
    assert {run.info.experiment_id for run in Store().find()} == {named.experiment_id}
    assert len(models()) == 1
