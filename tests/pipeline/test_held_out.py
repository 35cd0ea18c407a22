"""A held-out split is scored at the end and seen by nothing else."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, Checkout
from mlflow_store import inputs, models, rows, stages_of

from fcn import params
from fcn.data.split import Split
from fcn.datasets import packing, pairing, sources
from fcn.metrics import scores
from fcn.runtime.errors import UserError
from fcn.weights import model_file


def ran(printed: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", printed)


def test_only_resize_and_evaluate_know_where_the_held_out_images_are() -> None:
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert [name for name, stage in graph.items() if "data/test" in stage["cmd"]] == ["resize", "evaluate"]
    assert [name for name, stage in graph.items() if "data/test" in stage["deps"]] == ["evaluate"]
    assert graph["resize"]["outs"] == ["data/resized", "data/test", "metrics/figures/resize"]


def test_an_image_of_test_that_is_trained_or_validated_on_is_refused() -> None:
    for roles in (("train", "test"), ("val", "test")):
        with pytest.raises(UserError, match=rf"1 image is in both splits.*a \({roles[0]}\) is b \(test\)"):
            packing.refuse_shared({"x": "a", "y": "c"}, {"x": "b"}, roles=roles)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_split_that_is_used_already_is_not_held_out(name: str) -> None:
    experiment = params.load(ROOT / "params.yaml")
    splits = experiment.data.splits.model_copy(update={"test": name})
    with pytest.raises(UserError, match=f"data.splits.test is '{name}', which is not held out"):
        sources.check(experiment.data.model_copy(update={"splits": splits}))


def test_a_drawn_test_split_takes_its_images_from_train_and_leaves_val_as_it_is(tmp_path: Path) -> None:
    pairs = [pairing.Pair(f"k{i:02d}", f"images/k{i:02d}.png", f"masks/k{i:02d}.png") for i in range(40)]
    folder = params.load(ROOT / "params.yaml").data.folder.model_copy(update={"fraction": 0.2})
    third = folder.model_copy(update={"test": 0.25})

    def keys(split: str, given: params.Folder) -> set[str]:
        return {pair.key for pair in pairing.members(tmp_path, [], pairs, split, given)}

    assert keys("val", third) == keys("val", folder)
    assert len(keys("test", third)) == 10
    assert keys("train", third) | keys("test", third) == keys("train", folder)
    assert not keys("train", third) & keys("test", third)
    with pytest.raises(UserError, match=r"data\.folder\.test: 0\.2 adds test"):
        keys("test", folder)


@pytest.mark.slow
def test_a_held_out_split_is_scored_and_trains_nothing_again(ready: Checkout) -> None:
    assert json.loads(ready.read("metrics/test.json")) == {}
    before = {name: (ready.folder / f"data/weights/{name}.safetensors").read_bytes() for name in ("fcn32s", "fcn8s")}
    ready.set(**{"data.splits.test": "test", "data.scenes.test": 3})
    assert ran(ready.run("dvc", "repro")) == ["download", "resize", "evaluate", "report"]
    for name, content in before.items():
        assert (ready.folder / f"data/weights/{name}.safetensors").read_bytes() == content
    found = json.loads(ready.read("metrics/test.json"))
    assert list(found) == ["fcn32s", "fcn16s", "fcn8s"]
    split = Split(ready.folder / "data/test", "test")
    assert len(split) == 3
    net, _ = model_file.build(ready.folder / "data/weights/fcn8s.safetensors")
    counts = torch.zeros(8, 8, dtype=torch.int64)
    with torch.no_grad():
        for i in range(len(split)):
            predicted = net(torch.from_numpy(split.image(i).copy()).permute(2, 0, 1)[None])[0].argmax(0)
            counts += scores.confusion(torch.from_numpy(split.mask(i).copy()), predicted, 8)
    assert found["fcn8s"] == pytest.approx(scores.scores(counts).asdict(), abs=1e-3)
    assert json.loads(ready.read("metrics/scores.json"))["fcn8s"] != found["fcn8s"]
    report = ready.read("metrics/report.md")
    assert f"| FCN-8s | {100 * found['fcn8s']['pixel_accuracy']:.1f} |" in report.partition("## Held-out split")[2]
    (row,) = [row for row in rows(ready).values() if "fcn8s.test_mean_iu" in row.data.metrics]
    assert row.data.metrics["fcn8s.test_mean_iu"] == pytest.approx(found["fcn8s"]["mean_iu"], abs=5e-5)
    ready.run("fcn", "sync")  # the nets were trained with another store
    (net8s,) = [net for net in models(ready) if net[0] == "fcn8s"]
    on_test = {name: value for name, value, data, _ in net8s[-1] if data == "scenes-test"}
    assert on_test == pytest.approx({f"fcn8s.test_{name}": value for name, value in found["fcn8s"].items()}, abs=5e-5)
    evaluated = stages_of(ready, row)["evaluate"]
    assert [name for name, _ in inputs(evaluated)] == ["scenes-test", "scenes-val"]
    told, at_row = inputs(evaluated), inputs(row)
    for path in ready.folder.glob("mlflow.db*"):
        path.unlink()
    ready.run("fcn", "sync")  # a lost store comes back with the same scores by data set
    (row,) = [row for row in rows(ready).values() if "fcn8s.test_mean_iu" in row.data.metrics]
    rebuilt = [net for net in models(ready) if any(data == "scenes-test" for _, _, data, _ in net[-1])]
    assert [net[0] for net in rebuilt] == ["fcn16s", "fcn32s", "fcn8s"]
    same = [score for score in rebuilt[-1][-1] if score[2] == "scenes-test"]
    assert same == [score for score in net8s[-1] if score[2] == "scenes-test"]
    assert inputs(stages_of(ready, row)["evaluate"]) == told
    assert set(at_row) < set(inputs(row))  # the rebuilt row has the training stages too, with their split
    ready.set(**{"data.scenes.test": 4})
    assert ran(ready.run("dvc", "repro")) == ["download", "resize", "evaluate", "report"]
