"""What is found image by image and about borders, on masks small enough to be worked by hand."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import packed_split
from PIL import Image
from scipy import ndimage

from fcn.data.labels import VOID, Labels, UInt8
from fcn.data.split import Split
from fcn.datasets.sources import Sample
from fcn.evaluation import exhibits, review, score_charts
from fcn.evaluation.borders import FARTHER, NEVER, WITHIN, rings
from fcn.metrics.scores import confusion, image_mean_iu
from fcn.params import Size

THREE = Labels(("sky", "road", "car"), ((70, 130, 180), (128, 64, 128), (0, 0, 142)))


def uint8(rows: list[list[int]]) -> UInt8:
    return np.array(rows, np.uint8)


def test_neighbours_of_two_classes_are_at_one_also_across_a_corner() -> None:
    # Steps to the nearest pixel of another class, row by row: 3 2 1 1 2, 3 2 1 1 1, and again, (2, 2) by a corner.
    mask = uint8([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0]])
    one, two, four = 0, 1, 2  # places in WITHIN
    assert rings(mask).tolist() == [
        [four, two, one, one, two],
        [four, two, one, one, one],
        [four, two, one, one, one],
    ]


def test_void_makes_no_border_and_is_crossed_to_reach_one() -> None:
    assert rings(uint8([[0, 0, VOID, 0]])).tolist() == [[FARTHER, FARTHER, NEVER, FARTHER]]
    # A contour of three void pixels, as VOC draws them: the classes on both sides are four apart.
    expected = [3, 2, NEVER, NEVER, NEVER, 2, 3]  # 5 and 4 pixels: within 8 and within 4
    assert rings(uint8([[0, 0, VOID, VOID, VOID, 1, 1]])).tolist() == [expected]


def test_rings_are_those_of_scipys_chessboard_distance() -> None:
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 4, (9, 7)), np.ones((11, 9))).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.2] = VOID
    expected = np.full(mask.shape, NEVER, np.uint8)
    for number in range(4):
        other = (mask != number) & (mask != VOID)
        distance = ndimage.distance_transform_cdt(~other, "chessboard")
        expected[mask == number] = np.searchsorted(WITHIN, distance[mask == number])
    assert (rings(mask) == expected).all()
    assert set(expected.ravel()) >= {0, 1, 2, 3, NEVER}


def test_best_and_worst_share_no_image_and_equals_keep_the_splits_order() -> None:
    scores = np.array([0.5, np.nan, 0.9, 0.5, 0.1, 0.5])
    assert review.ends(scores) == ([2, 0], [4, 3])
    assert review.ends(scores, count=1) == ([2], [4])
    assert review.ends(np.array([np.nan, 0.3])) == ([1], [1])
    assert review.ends(np.array([np.nan])) == ([], [])


def test_images_are_disputed_by_the_share_that_differs_and_none_where_all_agree() -> None:
    assert review.disputed(np.array([0.1, np.nan, 0.0, 0.4, 0.1])) == [3, 0, 4]


MASKS = {
    "a": uint8([[0, 0, 0, 1], [0, 0, 0, VOID]]),
    "b": uint8([[2, 2, 2], [2, 2, 2], [1, 1, 1], [1, 1, 1]]),
    "void": uint8([[VOID, VOID]]),
}
PREDICTED = {
    "fcn32s": {"a": [[0, 0, 0, 0], [0, 0, 0, 0]], "b": [[1, 1, 1]] * 4, "void": [[0, 0]]},
    "fcn8s": {"a": [[0, 0, 1, 1], [0, 0, 0, 1]], "b": [[2, 2, 2], [2, 2, 1], [1, 1, 1], [1, 1, 1]], "void": [[1, 1]]},
}


@pytest.fixture
def predicted(tmp_path: Path) -> tuple[Split, Path]:
    """Three images, each of a size that its mask has not, as with `evaluate.size: native`; and what two nets say."""
    samples = []
    for name, mask in MASKS.items():
        height, width = mask.shape
        image = Image.fromarray(np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3))
        samples.append(Sample(name, tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png"))
        image.save(samples[-1].image)
        Image.fromarray(mask).save(samples[-1].mask)
        for net, answers in PREDICTED.items():
            (tmp_path / "predictions" / net).mkdir(parents=True, exist_ok=True)
            THREE.picture(uint8(answers[name])).save(tmp_path / "predictions" / net / f"{name}.png")
    split = packed_split(samples, THREE, tmp_path, size=Size(7, 5), native_masks=True)
    return split, tmp_path / "predictions"


def image_scores(split: Split, nets: Iterable[str]) -> dict[str, review.Numbers]:
    """Mean IU of each image, as evaluate takes it from the nets' counts."""
    return {net: image_mean_iu(torch.stack([counts(split, net, i) for i in range(len(split))])).numpy() for net in nets}


def counts(split: Split, net: str, i: int) -> torch.Tensor:
    prediction = torch.tensor(PREDICTED[net][split.name(i)])
    matrix = confusion(torch.from_numpy(split.mask(i).copy()), prediction, len(THREE.names))
    return torch.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])


def test_a_review_counts_each_image_and_each_ring_once_and_void_nowhere(predicted: tuple[Split, Path]) -> None:
    split, folder = predicted
    found = review.review(split, folder, image_scores(split, PREDICTED))
    # a: FCN-32s has 6 of 7 sky and no road; FCN-8s 5 of 6 sky, 1 of 2 road. b: 6 of 12 road; 5 of 6 and 6 of 7.
    assert found.scores["fcn32s"][:2] == pytest.approx([6 / 14, 1 / 4])
    assert found.scores["fcn8s"][:2] == pytest.approx([(5 / 6 + 1 / 2) / 2, (5 / 6 + 6 / 7) / 2])
    assert found.differ[:2] == pytest.approx([2 / 7, 5 / 12])
    assert np.isnan([*(scores[2] for scores in found.scores.values()), found.differ[2]]).all()
    # At 1: three pixels of a and the two middle rows of b. At 2: two of a, the outer rows of b. At 3: two of a.
    assert found.pixels.tolist() == [3 + 6, 2 + 6, 2, 0, 0, 0, 0]
    assert found.wrong["fcn32s"].tolist() == [1 + 3, 0 + 3, 0, 0, 0, 0, 0]
    assert found.wrong["fcn8s"].tolist() == [1 + 1, 0, 0, 0, 0, 0, 0]
    images, near = found.tables(split)
    assert list(images) == ["image", "fcn32s", "fcn8s", "differ"]
    assert next(csv.DictReader(images.to_csv(index=False).splitlines()))["fcn8s"] == "0.666667"
    assert near["distance"].tolist() == ["1", "2", "4", "8", "16", "32", "farther"]


def test_shares_of_no_pixel_are_not_a_number() -> None:
    assert review.shares(np.array([1, 0]), np.array([4, 0])) == pytest.approx([0.25, np.nan], nan_ok=True)


IU = {"fcn32s": [0.4, np.nan, 0.0], "fcn16s": [0.5, np.nan, 0.0], "fcn8s": [0.5, np.nan, 0.2]}


@pytest.mark.parametrize("nets", [[], ["fcn8s"], ["fcn32s", "fcn8s"]])
def test_every_picture_is_drawn_whatever_nets_have_a_score(
    predicted: tuple[Split, Path], nets: list[str], tmp_path: Path
) -> None:
    split, folder = predicted
    found = review.review(split, folder, image_scores(split, nets))
    paths = exhibits.draw(split, folder, found, {net: IU[net] for net in nets}, tmp_path / "figures")
    assert {path.name for path in paths} == {"iu.png", "best.png", "worst.png", "strides.png", "borders.png"}
    heights = {}
    for path in paths:
        with Image.open(path) as picture:
            heights[path.stem] = picture.height
    few = 40  # pixels: one line that says that there is nothing to show
    for name in ("iu", "best", "worst", "borders"):
        assert (heights[name] == few) == (not nets)
    assert (heights["strides"] == few) == (len(nets) < 2)


def test_what_a_finer_net_changes_is_mended_spoiled_or_wrong_in_another_way() -> None:
    mask, coarse, fine = uint8([[0, 0, 1, 2, VOID]]), uint8([[1, 0, 0, 2, 0]]), uint8([[0, 1, 2, 2, 1]])
    step = exhibits.changes(mask, coarse, fine)
    assert {what: at[0].tolist() for what, at in step.items()} == {
        "mended": [True, False, False, False, False],
        "spoiled": [False, True, False, False, False],
        "wrong, another way": [False, False, True, False, False],
    }


def test_151_classes_stand_in_columns_that_can_be_read(tmp_path: Path) -> None:
    labels = Labels(tuple(f"class {i}" for i in range(151)), ((0, 0, 0),) * 151)
    score_charts.class_iu(labels, {"fcn8s": [i / 150 for i in range(151)]}, tmp_path / "iu.png")
    with Image.open(tmp_path / "iu.png") as picture:
        assert picture.height / 76 > 15  # pixels a line, with two columns of at most 80
