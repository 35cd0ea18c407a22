"""What numbers must agree on, by hand and against the nets themselves; and that `fcn check` says it first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from conftest import ROOT, Checkout
from PIL import Image
from torch import nn

from fcn.data.split import Split
from fcn.experiments import precheck
from fcn.models.backbones import BACKBONES
from fcn.models.fcn import FCN
from fcn.models.layers import CAFFE, PREPROCESSINGS
from fcn.models.trunk import normalized_positions
from fcn.params import Params, Size
from fcn.rungs import compatibility, initialization
from fcn.runtime.errors import UserError
from fcn.weights import model_file

Small = Callable[..., Params]
Pad = Literal[100, "same"]
SIDES = [1, 15, 16, 17, 25, 26, 27, 31, 32, 33, 58, 59, 64, 65, 97]


def smallest(net: FCN, height: int, width: int) -> int:
    """Pixels of the smallest map that a batch norm of the net is given."""
    seen: list[int] = []
    hooks = [
        module.register_forward_hook(lambda module, given, result: seen.append(given[0].shape[2:].numel()))
        for module in net.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        net.eval()(torch.empty(1, 3, height, width, device="meta"))
    for hook in hooks:
        hook.remove()
    return min(seen, default=0)


@pytest.mark.parametrize("pad", [100, "same"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_smallest_map_that_batch_norm_sees_is_the_nets_own(backbone: str, pad: Pad) -> None:
    with torch.device("meta"):
        net = FCN(2, 32, backbone, pad=pad, preprocessing=CAFFE)
    for side in SIDES:
        for height, width in ((side, 1), (1, side), (side, side), (side, 40)):
            assert normalized_positions(backbone, pad, height, width) == smallest(net, height, width), (height, width)


@pytest.mark.parametrize(
    ("backbone", "pad", "alone", "enough"),
    [("slim", "same", 32, 33), ("slim", 100, 26, 27), ("vgg16_bn", "same", 16, 17)],
)
def test_the_real_net_refuses_exactly_the_images_that_are_refused(
    backbone: str, pad: Pad, alone: int, enough: int
) -> None:
    with torch.device("meta"):
        net = FCN(2, 32, backbone, pad=pad, preprocessing=CAFFE)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        net.train()(torch.empty(1, 3, alone, alone, device="meta"))
    net.train()(torch.empty(1, 3, 1, enough, device="meta"))
    assert normalized_positions(backbone, pad, alone, alone) == 1
    assert normalized_positions(backbone, pad, 1, enough) == 2


ONE = {"batch_size": 1, "data.size.train": "native"}


def images(params: Params, *sizes: tuple[int, int], processes: int | None = 1) -> str:
    named = [(f"image{i}", Size(*size)) for i, size in enumerate(sizes)]
    try:
        compatibility.check_images(params.train, params, named, processes=processes)
    except UserError as error:
        return str(error)
    return ""


def test_an_image_in_which_batch_norm_sees_one_value_is_named_with_what_to_do(small: Small) -> None:
    line = (
        "training image image1 is 20x32, in which batch norm sees a single value per channel; "
        "set data.crop to WIDTHxHEIGHT with a side of 33 pixels or more"
    )
    assert images(small(**ONE), (64, 48), (20, 32)) == line
    assert images(small(**ONE), (20, 32)).endswith("; set batch_size: 2, or a side of 33 pixels or more")
    assert images(small(**ONE, **{"data.crop": "40x20"}), (64, 48), (20, 32)) == ""  # every image becomes 40×20
    assert images(small(batch_size=2), (20, 32)) == ""
    assert images(small(**ONE, **{"train.freeze": "backbone"}), (20, 32)) == ""  # its statistics stay as they are
    assert images(small(**ONE, **{"train.iterations": 0}), (20, 32)) == ""
    assert images(small(**ONE, **{"model.backbone": "vgg16"}), (20, 32)) == ""


def test_a_crop_in_which_batch_norm_sees_one_value_is_refused_whatever_the_images(small: Small) -> None:
    crop = small(**ONE, **{"data.crop": "16x16", "model.backbone": "vgg16_bn"})
    assert images(crop, (64, 48)) == (
        "params.yaml: data.crop is 16x16, in which batch norm sees a single value per channel; "
        "set batch_size: 2, or a side of 17 pixels or more"
    )


def test_sizes_that_differ_in_a_pass_are_refused_and_accumulation_is_advised_where_it_is_allowed(small: Small) -> None:
    native = {"batch_size": 4, "data.size.train": "native"}
    line = (
        "training images of a pass differ in size: image0 is 64x48, image1 is 48x64; set data.size.train or data.crop "
    )
    sizes = (64, 48), (48, 64)
    assert images(small(**native), *sizes) == line + "to WIDTHxHEIGHT, or batch_size: 1"
    plain = small(**native, **{"model.backbone": "vgg16"})
    advised = line + "to WIDTHxHEIGHT, or batch_size: 1, or accumulate: 4, so that a pass has one image"
    assert images(plain, *sizes) == advised
    for accumulate, refused in ((2, True), (3, True), (4, False)):
        rung = small(**native, **{"model.backbone": "vgg16", "train.accumulate": accumulate})
        assert bool(images(rung, *sizes)) == refused
    for processes, refused in ((2, True), (4, False)):
        assert bool(images(plain, *sizes, processes=processes)) == refused
    assert images(plain, (64, 48), (64, 48)) == ""
    assert images(small(**native, **{"data.crop": "32x32"}), *sizes) == ""


@pytest.mark.parametrize(("crop", "refused"), [("64x64", False), ("65x10", True), ("10x65", True), ("64x48", False)])
def test_a_crop_larger_than_every_image_is_refused(small: Small, crop: str, refused: bool) -> None:
    line = f"params.yaml: data.crop is {crop}, larger than every training image: the widest has 64 pixels, "
    found = images(small(**{"data.crop": crop, "data.size.train": "native"}), (64, 48), (48, 64))
    assert found.startswith(line) if refused else found == ""


def test_class_weights_must_be_as_many_as_classes_and_not_all_zero() -> None:
    with pytest.raises(UserError, match=r"^params.yaml: data.class_weights has 3 weights, the data set has 2 classes$"):
        compatibility.check_class_weights([1.0, 2.0, 3.0], 2)
    with pytest.raises(UserError, match=r"^params.yaml: data.class_weights are all 0, "):
        compatibility.check_class_weights([0.0, 0.0], 2)
    for wanted in ([0.0, 1.0], "none", 0.5):
        compatibility.check_class_weights(wanted, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"data.class_weights": [1, 2, 3]},
            "params.yaml: data.class_weights has 3 weights, the data set has 8 classes",
        ),
        ({"data.crop": "64x32"}, "params.yaml: data.crop is 64x32, larger than every training image"),
        ({"data.crop": "64x32", "data.size.train": "native"}, "params.yaml: data.crop is 64x32, larger than every"),
        (
            {"data.crop": "32x32", "data.size.train": "native", "data.tile": "16x64"},
            "params.yaml: data.crop is 32x32, ",
        ),
        ({"batch_size": 1}, "every training image is 32x32, in which batch norm sees a single value per channel; set "),
        ({"finetune.fcn8s.accumulate": 2}, "params.yaml: finetune.fcn8s.accumulate is 2: batch norm takes its "),
        (
            {"data.tile": "16x16", "data.overlap": 16},
            "params.yaml: data.overlap is 16; it must be smaller than the tiles",
        ),
        ({"model.weights": "caffe"}, "params.yaml: model.weights 'caffe' has no slim; available are "),
        (
            {"model.backbone": "vgg16", "model.weights": "caffe"},
            "params.yaml: model.preprocessing is torchvision; weights trained by caffe expect caffe",
        ),
        ({"train.init": "fcn33s"}, "params.yaml: init is 'fcn33s'; choose from parent, "),
        ({"train.init": "fcn16s-heavy-pascal"}, "fcn16s-heavy-pascal is FCN-16s and cannot initialize FCN-32s"),
        ({"train.init": "fcn32s-heavy-pascal"}, "fcn32s-heavy-pascal scores 21 classes of voc, the data set has 8"),
        ({"data.splits.val": "holdout"}, "params.yaml: scenes has no split 'holdout'; choose from train, val, test"),
        ({"data.scenes.val": 0}, "params.yaml: data.scenes.val is 0; a split needs at least one image"),
    ],
)
def test_what_params_say_of_themselves_is_checked_before_anything_runs(
    small: Small, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as caught:
        precheck.check(small(**changes))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Params of a folder of four pictures, of 60×44 and, turned by EXIF, 44×60; two classes."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/own/mine"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(4):
        picture = Image.new("RGB", (60, 44))
        exif = picture.getexif()
        exif[0x0112] = 6 if i == 3 else 1
        picture.save(folder / f"images/{i}.jpg", exif=exif)
        Image.new("L", (60, 44), i % 2).save(folder / f"masks/{i}.png")
    (folder / "train.txt").write_text("0\n1\n3\n")
    (folder / "val.txt").write_text("2\n")
    own = {"dataset": "folder", "folder.name": "mine", "folder.classes": ["no", "yes"], "size.train": "native"}
    return {f"data.{key}": value for key, value in own.items()}


def test_a_folder_of_ones_own_is_measured_and_its_classes_are_counted(small: Small, own: dict[str, Any]) -> None:
    sizes = [("0", (60, 44)), ("1", (60, 44)), ("3", (44, 60))]
    assert precheck.image_sizes(small(**own)) == sizes
    assert precheck.image_sizes(small(**own, **{"data.tile": "50x50"}))[2] == ("3", (44, 50))
    assert precheck.image_sizes(small(**own | {"data.size.train": 22}))[2] == ("3", (22, 30))
    with pytest.raises(UserError, match="data.class_weights has 3 weights, the data set has 2 classes"):
        precheck.check(small(**own, **{"data.class_weights": [1, 2, 3]}))
    with pytest.raises(UserError, match=r"^params.yaml: data.folder.classes lists only one class, no, so "):
        precheck.check(small(**own | {"data.folder.classes": ["no"]}))
    with pytest.raises(UserError, match="the widest has 60 pixels, the highest 60; "):
        precheck.check(small(**own, **{"data.crop": "61x60"}))
    with pytest.raises(UserError, match="no test.txt"):
        precheck.check(small(**own, **{"data.splits.train": "test"}))
    assert precheck.check(small(**own, **{"data.crop": "60x60"})) == []
    (warning,) = precheck.check(small(**own))
    assert warning.startswith("warning: unless as many processes share a batch as it has images, training images of a ")


def test_every_recipe_agrees_with_itself() -> None:
    from fcn import params

    for recipe in sorted((ROOT / "recipes").glob("*.yaml")):
        precheck.check_params(params.load(recipe))


def backbone(path: Path, name: str) -> Path:
    """A model file to start from."""
    net = FCN(1, 32, name, pad="same")
    state = {key: tensor for key, tensor in net.state_dict().items() if not key.startswith("score")}
    meta = model_file.Meta({"backbone": name}, PREPROCESSINGS["torchvision"], None, None, None, 0, 2, {})
    model_file.save(path, state, meta)
    return path


def test_a_rung_refuses_before_its_first_step_what_resize_has_shown(
    small: Small, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, parent = Split(packed, "train"), backbone(tmp_path / "slim.safetensors", "slim")
    for changes, line in (
        ({"batch_size": 1}, r"^training image train_0000 is 32x32, in which batch norm sees a single value"),
        ({"data.crop": "40x20"}, r"^params.yaml: data.crop is 40x20, larger than every training image"),
        ({"data.class_weights": [1.0]}, r"^params.yaml: data.class_weights has 1 weights, the data set has 8 classes$"),
        ({"train.accumulate": 2}, r"^params.yaml: train.accumulate is 2: batch norm"),
    ):
        with pytest.raises(UserError, match=line):
            initialization.initialize(train, 32, small(**changes), parent, parent)
    assert initialization.initialize(train, 32, small(), parent, parent).net.stride == 32


@pytest.mark.slow
def test_check_and_recipe_refuse_in_one_line(checkout: Checkout) -> None:
    recipe = checkout.folder / "recipes" / "wrong.yaml"
    checkout.set(**{"data.class_weights": [1, 2, 3]})
    recipe.write_text(checkout.read("params.yaml"))
    expected = "error: params.yaml: data.class_weights has 3 weights, the data set has 8 classes\n"
    assert checkout.run("fcn", "check", code=1) == expected
    assert checkout.run("fcn", "recipe", "wrong", "--force", code=1) == expected
