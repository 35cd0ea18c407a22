"""Folders with depth, HHA or infrared images beside the images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_folders import inspected, write
from PIL import Image

from fcn import params
from fcn.data.depth import encode
from fcn.datasets import resizing, sources
from fcn.datasets.sources import folder as source
from fcn.inspection import adoption, inspection
from fcn.runtime.errors import UserError

SIZE = (16, 24)


def make(root: Path, images: str = "images", masks: str = "masks", count: int = 12, **kinds: Any) -> Path:
    """Images and masks, and for each kind an image of its dtype and shape."""
    rng = np.random.default_rng(0)
    for i in range(count):
        mask = rng.integers(0, 2, SIZE, np.uint8)
        write(root / images / f"i{i}.jpg", rng.integers(0, 256, (*SIZE, 3), np.uint8))
        write(root / masks / f"i{i}.png", mask)
        for kind, (dtype, shape) in kinds.items():
            values = rng.integers(500, 9000, shape) if dtype is np.uint16 else rng.integers(0, 256, shape)
            folder = images.replace("images", kind)
            write(root / folder / f"i{i}.png", values.astype(dtype))
    return root


DEPTH, GREY, COLOUR = (np.uint16, SIZE), (np.uint8, SIZE), (np.uint8, (*SIZE, 3))


@pytest.mark.parametrize(
    ("kinds", "inputs"),
    [
        ({}, None),
        ({"depth": DEPTH}, "rgb+depth"),
        ({"infrared": GREY}, "rgb+infrared"),
        ({"hha": COLOUR, "depth": DEPTH}, "rgb+depth+hha"),
    ],
)
@pytest.mark.parametrize("layout", [("images", "masks"), ("train/images", "train/labels")])
def test_the_recipe_takes_the_inputs_that_every_image_has(
    tmp_path: Path, kinds: dict[str, Any], inputs: str | None, layout: tuple[str, str]
) -> None:
    found = inspected(make(tmp_path / "mine", *layout, **kinds))
    assert found.errors == []
    assert (found.params.images, found.params.masks) == tuple(f"{name.replace('train', '*')}/*" for name in layout)
    assert adoption.changes(found, "mine").get("data.inputs") == inputs
    assert any("beside every image: further inputs" in note for note in found.notes) == bool(kinds)
    assert not any("match neither pattern" in note for note in found.notes)
    assert len(found.further()) == 12 * len(kinds)


@pytest.mark.parametrize(
    ("spoil", "warning"),
    [
        (lambda depth: depth.unlink(), "depth/i3.png is missing"),
        (
            lambda depth: Image.new("L", SIZE[::-1]).save(depth),
            "depth/i3.png has mode L; depth is a greyscale image of 16",
        ),
        (lambda depth: write(depth, np.ones((4, 5), np.uint16)), "depth/i3.png is 5x4, its image is 24x16"),
        (lambda depth: depth.write_bytes(b"no image"), "depth/i3.png cannot be decoded"),
    ],
)
def test_depth_that_not_every_image_has_is_no_input(tmp_path: Path, spoil: Any, warning: str) -> None:
    root = make(tmp_path / "mine", depth=DEPTH)
    spoil(root / "depth" / "i3.png")
    found = inspection.inspect(root)
    assert any(f"depth is not used as an input: {warning}" in line for line in found.warnings)
    assert "data.inputs" not in adoption.changes(found, "mine")
    assert found.errors == []


def test_infrared_with_transparency_is_no_input(tmp_path: Path) -> None:
    root = make(tmp_path / "mine", infrared=GREY)
    assert inspection.inspect(root).inputs == ["infrared"]
    Image.new("LA", SIZE[::-1]).save(root / "infrared" / "i3.png")
    found = inspection.inspect(root)
    assert found.inputs == []
    assert any(
        "infrared/i3.png has mode LA; infrared is a greyscale image of 8 bits" in line for line in found.warnings
    )


def data(**changes: Any) -> params.Data:
    text = (Path(__file__).parents[2] / "recipes/scenes.yaml").read_text()
    content = params.parse(text, "params.yaml")
    content["data"] |= {"dataset": "folder", "inputs": "rgb+depth"} | changes
    content["data"]["folder"] |= {"name": "mine", "fraction": 0.2, "classes": ["a", "b"]}
    return params.check(content, "params.yaml").data


def test_download_copies_the_inputs_and_resize_packs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "data/own/mine", depth=DEPTH)
    experiment = data()
    sources.check(experiment)
    (tmp_path / "raw").mkdir()
    source.build(experiment, {}, tmp_path / "raw")
    (first, *_) = sources.samples(experiment, tmp_path / "raw", "val")
    image, _ = resizing.read(first, sources.labels(experiment))
    assert np.array_equal(image[:, :, :3], np.asarray(Image.open(first.image)))
    own = tmp_path / "data/own/mine/depth" / f"{first.image.stem}.png"
    assert np.array_equal(image[:, :, 3], encode(np.asarray(Image.open(own))))
    assert len(list((tmp_path / "raw/depth").iterdir())) == 12


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        ("rgb+infrared", "infrared/i0.png is missing: data.inputs has infrared; add it, or change data.inputs"),
        ("rgb+hha", "hha/i0.png is missing: data.inputs has hha; it is not computed from depth, because that needs"),
    ],
)
def test_an_input_that_the_folder_lacks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "data/own/mine", depth=DEPTH)
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError) as caught:
        source.build(data(inputs=inputs), {}, tmp_path / "raw")
    assert line.replace("i0", "i") in str(caught.value).replace("i0", "i").replace("i1.", "i.")
    assert "\n" not in str(caught.value)


def test_depth_of_a_rotated_photograph_is_rotated_by_its_own_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, pixels in (("images", np.zeros((4, 6, 3), np.uint8)), ("depth", np.full((4, 6), 1000, np.uint16))):
        (tmp_path / kind).mkdir()
        Image.fromarray(pixels).save(tmp_path / kind / "a.png", exif=exif)
    sample = sources.Sample("a", tmp_path / "images/a.png", Path(), True, ("rgb", "depth"))
    assert resizing.channels(sample).shape == (6, 4, 4)
