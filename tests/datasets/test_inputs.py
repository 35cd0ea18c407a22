"""Packed splits with other inputs than RGB and with two labels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fcn.data.labels import VOID, Labels
from fcn.data.split import Split
from fcn.data.tiles import Tiling
from fcn.datasets import packing, resizing
from fcn.datasets.sources import Sample
from fcn.params import Size
from fcn.runtime.errors import UserError

SEMANTIC = Labels(("grass", "wall", "cloud"), ((0, 128, 0), (128, 0, 0), (0, 0, 128)))
GEOMETRIC = Labels(("flat", "upright"), ((90, 90, 90), (200, 200, 0)))


def sample(raw: Path, name: str, seed: int, size: tuple[int, int] = (12, 9)) -> Sample:
    """Files in the layout that sources write, each with values of its own."""
    rng, (width, height) = np.random.default_rng(seed), size
    files = {
        "image": rng.integers(0, 256, (height, width, 3), np.uint8),
        "hha": rng.integers(0, 256, (height, width, 3), np.uint8),
        "infrared": rng.integers(0, 256, (height, width), np.uint8),
        "depth": rng.integers(400, 9000, (height, width), np.uint16),
        "mask": rng.integers(0, 3, (height, width), np.uint8),
        "geometric": rng.integers(0, 2, (height, width), np.uint8),
    }
    files["geometric"][0, 0] = VOID
    for kind, pixels in files.items():
        (raw / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(raw / kind / f"{name}.png")
    return Sample(name, raw / "image" / f"{name}.png", raw / "mask" / f"{name}.png")


def pack(samples: list[Sample], out: Path, size: Size | str = "native", tiling: Tiling | None = None) -> Split:
    out.mkdir(exist_ok=True)
    for role in ("train", "val"):
        packing.pack(samples, SEMANTIC, size, False, role, out, tiling)  # type: ignore[arg-type]
    packing.write_labels(SEMANTIC, out)
    if samples[0].geometric:
        packing.write_labels(samples[0].geometric, out, "geometric.json")
    packing.write_inputs(samples[0].inputs, out)
    return Split(out, "train")


def test_channels_are_packed_in_the_order_of_the_inputs(tmp_path: Path) -> None:
    inputs = ("rgb", "depth", "hha", "infrared")
    samples = [replace(sample(tmp_path / "raw", f"i{i}", i), inputs=inputs) for i in range(3)]
    split = pack(samples, tmp_path / "packed")
    assert split.inputs == {"rgb": 3, "depth": 1, "hha": 3, "infrared": 1}
    raw = {
        kind: np.asarray(Image.open(tmp_path / "raw" / kind / "i2.png"))
        for kind in ("image", "hha", "infrared", "depth")
    }
    image = split.image(2)
    assert np.array_equal(image[:, :, :3], raw["image"])
    assert np.array_equal(image[:, :, 4:7], raw["hha"])
    assert np.array_equal(image[:, :, 7], raw["infrared"])
    assert np.abs(np.exp(image[:, :, 3] / 40 + 5) / raw["depth"] - 1).max() < 0.0127  # half a step of 1/40
    assert np.array_equal(split.picture(2), raw["image"])


def test_both_masks_are_packed_for_each_pixel(tmp_path: Path) -> None:
    samples = [replace(sample(tmp_path / "raw", f"i{i}", i), geometric=GEOMETRIC) for i in range(2)]
    semantic, geometric = pack(samples, tmp_path / "packed").tasks()
    assert (semantic.labels.names, geometric.labels.names) == (SEMANTIC.names, GEOMETRIC.names)
    for task, kind in ((semantic, "mask"), (geometric, "geometric")):
        truth = np.asarray(Image.open(tmp_path / "raw" / kind / "i1.png"))
        assert np.array_equal(task.mask(1), truth)
        assert task.pixels()[1].tolist() == [(truth == number).sum() for number in range(len(task.labels.names))]
    assert geometric.void() == pytest.approx(1 / (12 * 9))
    assert semantic.void() == 0
    assert semantic.masks(0).shape == (9, 12, 2)


def test_masks_and_channels_are_resized_and_tiled_together(tmp_path: Path) -> None:
    one = replace(sample(tmp_path / "raw", "one", 1, (40, 20)), inputs=("rgb", "depth"), geometric=GEOMETRIC)
    whole = pack([one], tmp_path / "whole", Size(20, 10))
    assert (whole.image(0).shape, whole.masks(0).shape) == ((10, 20, 4), (10, 20, 2))
    tiled = pack([one], tmp_path / "tiled", "native", Tiling(20, 20, 0))
    geometric = tiled.tasks()[1]
    truth = np.asarray(Image.open(tmp_path / "raw" / "geometric" / "one.png"))
    assert np.array_equal(np.concatenate([geometric.mask(0), geometric.mask(1)], 1), truth)


def test_geometric_labels_alone_are_the_masks(tmp_path: Path) -> None:
    one = sample(tmp_path / "raw", "one", 1)
    alone = replace(one, mask=one.beside("geometric"))
    packed = resizing.resize(alone, GEOMETRIC, "native", False)
    assert not isinstance(packed, str)
    assert np.array_equal(packed.mask, np.asarray(Image.open(tmp_path / "raw" / "geometric" / "one.png")))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("kind", "factor"), [("u1", 1), ("u2", 257)])
def test_a_tiff_of_any_number_of_bands_is_packed_whole(tmp_path: Path, planar: str, kind: str, factor: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 7), np.uint8)
    one = replace(sample(tmp_path / "raw", "one", 1), image=tmp_path / "raw" / "image" / "one.tif", inputs=("bands",))
    values = pixels.astype(kind) * factor
    stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
    tifffile.imwrite(one.image, stored, photometric="minisblack", planarconfig=planar, compression="zlib")
    split = pack([one], tmp_path / "packed")
    assert split.inputs == {"bands": 7}
    assert np.array_equal(split.image(0), pixels)


def test_a_tiff_of_one_band_is_one_channel(tmp_path: Path) -> None:
    one = replace(sample(tmp_path / "raw", "one", 1), image=tmp_path / "one.tif", inputs=("bands",))
    tifffile.imwrite(one.image, np.full((9, 12), 7, np.uint8))
    split = pack([one], tmp_path / "packed")
    assert split.inputs == {"bands": 1}
    assert (split.picture(0) == 7).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((9, 12, 3), np.float32), "bands of float32"),
        (np.zeros((4, 3, 9, 12), np.uint8), "one axis beside rows and columns"),
        (b"II*\0 not a tiff", "cannot be decoded"),
        (b"", "cannot be decoded"),
    ],
)
def test_what_is_no_image_of_bands_is_refused_in_a_line(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "one.tif"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        tifffile.imwrite(path, content, photometric="minisblack")
    one = replace(sample(tmp_path / "raw", "one", 1), image=path, inputs=("bands",))
    said = resizing.resize(one, SEMANTIC, "native", False)
    assert isinstance(said, str)
    assert message in said
    assert "\n" not in said


def test_images_with_different_numbers_of_bands_are_named(tmp_path: Path) -> None:
    samples = []
    for count in (3, 5):
        one = sample(tmp_path / "raw", f"b{count}", count)
        samples.append(replace(one, image=tmp_path / f"b{count}.tif", inputs=("bands",)))
        tifffile.imwrite(samples[-1].image, np.zeros((count, 9, 12), np.uint8), photometric="minisblack")
    with pytest.raises(UserError, match="b3 has 3, b5 has 5"):
        pack(samples, tmp_path / "packed")


def test_inputs_of_another_size_or_kind_are_named(tmp_path: Path) -> None:
    one = replace(sample(tmp_path / "raw", "one", 1), inputs=("rgb", "depth"))
    Image.new("I;16", (5, 5)).save(tmp_path / "raw" / "depth" / "one.png")
    assert "depth/one.png is 5x5, its image" in str(resizing.resize(one, SEMANTIC, "native", False))
    Image.new("L", (12, 9)).save(tmp_path / "raw" / "depth" / "one.png")
    assert "greyscale image of 16 bits" in str(resizing.resize(one, SEMANTIC, "native", False))


@pytest.mark.parametrize("content", ["{}", "[]", '{"rgb": 0}', '{"rgb": 65}', '{"light": 3}', "x"])
def test_a_damaged_list_of_inputs_is_refused(tmp_path: Path, content: str) -> None:
    pack([sample(tmp_path / "raw", "one", 1)], tmp_path / "packed")
    (tmp_path / "packed" / "inputs.json").write_text(content)
    with pytest.raises(UserError, match="inputs.json must map"):
        Split(tmp_path / "packed", "train")


def test_rgb_alone_adds_no_file(tmp_path: Path) -> None:
    pack([sample(tmp_path / "raw", "one", 1)], tmp_path / "packed")
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == [
        "classes.json",
        *(f"{role}.{kind}" for role in ("train", "val") for kind in ("csv", "images", "masks")),
    ]
    assert json.loads((tmp_path / "packed" / "classes.json").read_text()) == {
        name: list(colour) for name, colour in zip(SEMANTIC.names, SEMANTIC.palette, strict=True)
    }
