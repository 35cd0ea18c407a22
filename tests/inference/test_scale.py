"""The size at which a net sees an image: that of its scores, whoever asks it."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Checkout, Fcn
from model_files import META, noise
from PIL import Image

from fcn.data.scale import Scale
from fcn.data.split import Split, read_scale
from fcn.data.tiles import tiling
from fcn.datasets import packing
from fcn.datasets.label_maps import SCENES
from fcn.datasets.sources import Sample
from fcn.inference import prediction
from fcn.metrics import counting, scores
from fcn.models import FCN
from fcn.params import Size
from fcn.runtime.errors import UserError
from fcn.serving import response
from fcn.weights import model_file


@pytest.mark.parametrize(
    ("scale", "size", "target"),
    [
        (Scale(), (4000, 3000), (4000, 3000)),
        (Scale(Size(128, 96)), (4000, 3000), (128, 96)),
        (Scale(256), (512, 1024), (256, 512)),
        (Scale(256), (100, 50), (512, 256)),
        (Scale("native", Size(512, 512)), (2048, 1024), (2048, 1024)),
        (Scale(Size(128, 128), Size(512, 512)), (2048, 1024), (512, 256)),
        (Scale(128, Size(512, 256)), (2048, 1024), (1024, 512)),
        (Scale(Size(128, 128), Size(512, 512)), (400, 300), (128, 128)),  # packed whole
        (Scale(Size(128, 128), Size(512, 512)), (1024, 300), (256, 128)),  # packed as tiles of 512x300
    ],
)
def test_a_whole_image_is_resized_as_it_is_packed_or_by_the_factor_of_its_tiles(
    scale: Scale, size: tuple[int, int], target: tuple[int, int]
) -> None:
    assert scale.target(size) == target


def model(path: Path, scale: Scale | None) -> Path:
    torch.manual_seed(1)
    net = FCN(8, 8, "slim", pad="same")
    for name, parameter in net.named_parameters():
        if name.startswith("score"):  # so that all classes win somewhere
            torch.nn.init.normal_(parameter)
    model_file.save(path, net.state_dict(), replace(META, scale=scale))
    return path


def pictures(folder: Path) -> list[Sample]:
    """Blurred noise, each picture of a size of its own: a net computes them one by one."""
    folder.mkdir()
    found = []
    for i, (width, height) in enumerate([(90, 70), (60, 81), (64, 64), (30, 20)]):
        found.append(Sample(f"p{i}", folder / f"p{i}.png", folder.with_name(f"p{i}_mask.png")))
        noise(width // 4, height // 4, i).resize((width, height)).save(found[-1].image)
        mask = np.random.default_rng(i).integers(0, 8, (height, width), np.uint8)
        SCENES.picture(mask).save(found[-1].mask)
    return found


@pytest.mark.parametrize(
    ("size", "tile"), [(40, None), (100, None), (Size(48, 32), None), ("native", None), (Size(48, 48), Size(96, 96))]
)
def test_predict_writes_what_evaluate_scored_pixel_by_pixel(
    fcn: Fcn, size: int | str, tile: str, tmp_path: Path
) -> None:
    samples, out = pictures(tmp_path / "pictures"), tmp_path / "packed"
    out.mkdir()
    packing.pack(samples, SCENES, size, True, "val", out, tiling(tile, 0))
    packing.write_labels(SCENES, out)
    packing.write_scale(Scale(size, tile), out)
    path = model(tmp_path / "net.safetensors", read_scale(out))
    printed = fcn("predict", tmp_path / "pictures", "--model", path, "--out", "masks")[0]
    assert ("images are resized" in printed) == (size != "native")
    split, (net, _) = Split(out, "val"), model_file.build(path)
    counts = torch.zeros(8, 8, dtype=torch.int64)
    for i, (mask,), (expected,) in counting.predictions(net, split):
        with Image.open(tmp_path / "masks" / f"{split.name(i)}.png") as picture:
            found = torch.from_numpy(np.array(picture))
        assert torch.equal(found, expected.byte())
        counts += scores.confusion(mask, found.long(), 8)
    assert scores.scores(counts) == scores.scores(counting.count(net, split)[0].confusion)


def test_a_scale_of_one_keeps_the_images_own_size(fcn: Fcn, tmp_path: Path) -> None:
    path, image = model(tmp_path / "net.safetensors", Scale(Size(32, 32))), noise(90, 70)
    image.save("a.png")
    net, _, _ = prediction.load(path)
    masks = {}
    for factor, seen in ((1, None), (0.5, (45, 35))):
        printed, _, code = fcn("predict", "a.png", "--model", path, "--out", f"{factor}", "--scale", factor)
        assert code == 0
        assert f"images are resized by {factor:g} for the net" in printed
        with Image.open(f"{factor}/a.png") as mask:
            masks[factor] = np.array(mask)
        assert np.array_equal(masks[factor], prediction.predict(net, image, seen=seen)[0].mask)
    assert (masks[1] != masks[0.5]).any()


@pytest.mark.parametrize("factor", ["0", "-1", "nan", "inf", "101"])
def test_a_factor_that_is_none_is_refused_in_one_line(fcn: Fcn, factor: str, tmp_path: Path) -> None:
    said = fcn("predict", "a.png", "--model", "a", "--out", "out", f"--scale={factor}")[2]
    assert str(said).startswith(f"error: --scale is {factor}; write a factor between 0 and 100")


def test_an_older_or_imported_model_sees_images_at_their_own_size(fcn: Fcn, tmp_path: Path) -> None:
    path = model(tmp_path / "net.safetensors", None)
    assert prediction.load(path)[2] == Scale()
    noise(33, 44).save("a.png")
    assert "resized" not in fcn("predict", "a.png", "--model", path, "--out", "out")[0]


def test_an_image_that_would_grow_beyond_all_bounds_is_named_and_refused(fcn: Fcn, tmp_path: Path) -> None:
    path = model(tmp_path / "net.safetensors", Scale(2000))
    Image.new("RGB", (1000, 1)).save("line.png")
    noise(40, 40).save("a.png")
    _, err, code = fcn("predict", "line.png", "--model", path, "--out", "out")
    assert "line.png would be resized to 2000000x2000; 1073 million pixels are allowed" in err
    assert str(code).startswith("error: 1 input failed")
    net, labels, scale = prediction.load(path)
    text = base64.b64encode(Path("line.png").read_bytes()).decode()
    with pytest.raises(UserError, match="image 0 would be resized to 2000000x2000; 64 million pixels are allowed"):
        response.segment(net, labels, [{"image": text}], scale.target)


@pytest.mark.slow
def test_a_rung_writes_into_its_model_file_how_val_was_resized(kept: Checkout) -> None:
    for net in ("fcn32s", "fcn16s", "fcn8s"):
        assert model_file.load(kept.folder / f"data/weights/{net}.safetensors")[1].scale == Scale(Size(32, 32), None)
    assert model_file.load(kept.folder / "data/weights/backbone.safetensors")[1].scale is None
