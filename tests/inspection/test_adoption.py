"""The recipe that `--adopt` writes, and the sizes that suit a folder's images and masks."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT
from own_folders import PLAIN, inspected, make, own, write

from fcn import params
from fcn.inspection import adoption, inspection, summary


def test_the_recipe_is_complete_and_differs_where_the_folder_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = inspected(make(tmp_path / "mine", PLAIN | {"classes.csv": "Straße\nyes: no\n"}))
    experiment = params.check(params.parse(adoption.recipe(found, "mine"), "x"), "x")
    assert experiment.data.dataset == "folder"
    assert experiment.data.folder == own(classes=["Straße", "yes: no"], void="255", fraction=0.2)
    default = params.load(ROOT / "recipes" / "scenes.yaml")
    assert (experiment.model, experiment.train) == (default.model, default.train)


def lists(**names: str) -> dict[str, Any]:
    return PLAIN | {f"{split}.txt": "".join(f"{name}\n" for name in listed) for split, listed in names.items()}


def folders(*splits: str) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for i, split in enumerate(splits):
        files |= {f"{split}/images/{i}{j}.png": "image" for j in range(3)}
        files |= {f"{split}/masks/{i}{j}.png": [0, 1, 255] for j in range(3)}
    return files


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (lists(train="01", val="2", test="3"), ("train", "val", "test")),
        (lists(train="01", valid="2", test="3"), ("train", "valid", "test")),
        (lists(train="01", val="23"), ("train", "val", None)),
        (lists(train="01", test="23"), ("train", "test", None)),  # the only images to compare experiments on
        (folders("train", "val", "test"), ("train", "val", "test")),
        (folders("training", "validation", "testing"), ("training", "validation", "testing")),
    ],
)
def test_a_folder_with_three_splits_holds_test_out(
    files: dict[str, Any], expected: tuple[str, str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = inspected(make(tmp_path / "mine", files))
    assert found.errors == []
    splits = params.check(params.parse(adoption.recipe(found, "mine"), "x"), "x").data.splits
    assert (splits.train, splits.val, splits.test) == expected
    excerpt = yaml.safe_load(adoption.excerpt(found))["data"]["splits"]
    assert excerpt == {key: name for key, name in zip(("train", "val", "test"), expected, strict=True) if name}
    (line,) = [line for line in summary.report(found) if line.startswith("  splits")]
    assert [word.split()[0] for word in line.partition(": ")[2].split(", ")] == [name for name in expected if name]
    assert not any("data.folder.test" in note for note in found.notes)


def test_an_image_of_test_that_is_trained_on_is_an_error(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", lists(train="01", val="2", test="3"))
    (folder / "images/3.jpg").write_bytes((folder / "images/0.jpg").read_bytes())
    (error,) = inspected(folder).errors
    assert "the same image is in both splits: images/0.jpg (train), images/3.jpg (test)" in error


@pytest.mark.parametrize(
    ("listed", "reason"),
    [("unlabelled\n", "'unlabelled' names no image that has a mask"), ("", "is empty")],
)
def test_a_list_of_test_images_without_masks_holds_nothing_out_and_a_note_says_so(
    listed: str, reason: str, tmp_path: Path
) -> None:
    found = inspected(make(tmp_path / "mine", lists(train="01", val="23") | {"test.txt": listed}))
    assert (found.errors, list(found.members)) == ([], ["train", "val"])
    (note,) = [note for note in found.notes if "test" in note]
    assert note.startswith("no held-out split: ")
    assert reason in note


def test_a_random_split_comes_with_a_hint_how_to_hold_images_out(tmp_path: Path) -> None:
    found = inspected(make(tmp_path / "mine", PLAIN))
    assert list(found.members) == ["train", "val"]
    assert (
        "no held-out split: for scores on images that neither trained nor chose a net, set data.splits.test: test and "
        "data.folder.test: 0.2 in the recipe, which draws a fifth of the images"
    ) in found.notes


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(640, 480)], {"data.size.train": 256, "data.crop": "224x224", "evaluate.size": "native"}),
        ([(4032, 3024), (3024, 4032)], {"data.size.train": 256, "data.crop": "224x224", "evaluate.size": "input"}),
        ([(128, 96)], {"data.size.train": "native", "data.crop": "none"}),
        ([(128, 96), (96, 120)], {"data.size.train": "native", "data.crop": "96x96"}),
        ([(8000, 8000)], {"data.size.train": "native", "data.tile": "512x512", "data.overlap": 64}),
    ],
)
def test_sizes_suit_the_images(sizes: list[tuple[int, int]], expected: dict[str, Any], tmp_path: Path) -> None:
    found = inspected(make(tmp_path / "mine", PLAIN))
    found.scans = [inspection.ScannedPair(image=inspection.ImageInfo("JPEG", "RGB", size, False)) for size in sizes]
    assert expected.items() <= adoption.sizes(found).items()


def striped(folder: Path, width: int) -> inspection.Inspection:
    """Four images of 512×512 whose masks are upright stripes of two classes, so wide."""
    rng = np.random.default_rng(0)
    mask = np.broadcast_to(np.arange(512) // width % 2, (512, 512)).astype(np.uint8)
    for i in range(4):
        write(folder / f"images/{i}.png", rng.integers(0, 256, (512, 512, 3), dtype=np.uint8))
        write(folder / f"masks/{i}.png", mask)
    return inspected(folder)


def test_images_whose_masks_hold_thin_structures_stay_in_their_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = striped(tmp_path, 8)
    # Native each block of 8 pixels lies in one stripe. At 256 a stripe has 4, a block half of either class, and the
    # lower wins: of class 0 half of the union is right, of class 1 nothing.
    assert found.bounds["native"] == 1
    assert found.bounds[256] == pytest.approx(0.25)
    monkeypatch.chdir(ROOT)
    expected = {"data.size.train": "native", "data.crop": "224x224", "evaluate.size": "native"}
    assert expected.items() <= adoption.sizes(found).items()
    bounds, costs = adoption.costs(found)
    assert bounds.startswith("mean IU by size, one prediction per 8 pixels: 512 -> 256: at most 25, 512 -> 384: at ")
    assert bounds.endswith("native: at most 100; chosen: native")
    assert re.fullmatch(
        r"estimated time here: training on 224x224 .+, scoring an image .+ s at 256, .+ at 384, .+ at native",
        costs,
    )


def test_images_whose_masks_lose_nothing_are_made_small(tmp_path: Path) -> None:
    found = striped(tmp_path, 64)
    assert found.bounds == {256: 1, 384: 1, "native": 1}
    expected = {"data.size.train": 256, "data.crop": "none", "evaluate.size": "native"}
    assert expected.items() <= adoption.sizes(found).items()
