"""The bound that needs no training, worked by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn.data.labels import VOID
from fcn.data.split import Split
from fcn.evaluation.bound import FACTORS, bounds, down_and_back, published, table
from fcn.figures import charts
from fcn.metrics.scores import Scores


def test_a_block_takes_the_class_of_most_of_its_valid_pixels() -> None:
    mask = np.array([[1, 1, 0], [VOID, 0, 2], [2, 2, VOID]], np.uint8)
    assert down_and_back(mask, 2, 3).tolist() == [[1, 1, 0], [1, 1, 0], [2, 2, 0]]


def test_a_factor_of_one_changes_no_valid_pixel() -> None:
    mask = np.random.default_rng(0).integers(0, 4, (7, 5)).astype(np.uint8)
    assert (down_and_back(mask, 1, 4) == mask).all()


def test_masks_of_blocks_lose_nothing_up_to_their_size() -> None:
    mask = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((8, 8), np.uint8))
    for factor in (4, 8):
        assert (down_and_back(mask, factor, 4) == mask).all()
    assert (down_and_back(mask, 16, 4) == 0).all()


def test_a_finer_factor_scores_higher_on_scenes(packed: Path) -> None:
    table = bounds(Split(packed, "val"))
    values = [table[factor].mean_iu for factor in FACTORS if factor <= 32]
    assert values == sorted(values)
    assert values[-1] < 1
    assert table[64].pixel_accuracy == pytest.approx(table[128].pixel_accuracy)  # 32×32 is one block in both


def test_the_papers_bound_stands_beside_vocs_and_no_others() -> None:
    rows = {factor: Scores(0.9, 0.8, 0.7, 0.6) for factor in FACTORS}
    lines = table(rows, published("voc")).splitlines()
    assert lines[0].endswith("paper's mean IU")
    assert lines[1].split() == ["128", "90.0", "80.0", "70.0", "60.0", "50.9"]
    assert lines[-2].split() == ["4", "90.0", "80.0", "70.0", "60.0", "98.5"]
    assert "appendix A" in lines[-1]
    assert published("scenes") == {}
    assert "paper" not in table(rows, {})


def test_the_bound_is_drawn_with_and_without_the_papers(tmp_path: Path) -> None:
    rows = {factor: 100 - factor / 4 for factor in FACTORS}
    charts.bound(rows, {}, "scenes, val", tmp_path / "ours.png")
    charts.bound(rows, published("voc"), "voc, seg11valid", tmp_path / "both.png")
    ours, both = (Image.open(tmp_path / name).convert("RGB") for name in ("ours.png", "both.png"))
    orange = (230, 159, 0)  # the paper's line
    assert orange in both.get_flattened_data()
    assert orange not in ours.get_flattened_data()
