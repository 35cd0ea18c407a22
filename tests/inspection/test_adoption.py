"""The recipe that `--adopt` writes, and the sizes that suit a folder's images and masks."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from own_folders import PLAIN, inspected, make, own, write

from fcn import params
from fcn.inspection import adoption, inspection


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
