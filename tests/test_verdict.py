"""Hand-made counts of nets that learned nothing, and of nets that learned a little."""

import pytest
import torch

from fcn.metrics import scores
from fcn.verdict import missing, nothing_learned

NAMES = ("sky", "road", "car")


def verdict(counts: list[list[int]]) -> str:
    matrix = torch.tensor(counts)
    return nothing_learned(
        NAMES, matrix.sum(1).tolist(), matrix.sum(0).tolist(), scores(matrix).asdict()["pixel_accuracy"]
    )


def test_one_answer_everywhere_is_nothing_learned_whichever_it_is() -> None:
    assert verdict([[0, 5, 0], [0, 60, 0], [0, 35, 0]]).startswith("learned nothing: it answers road everywhere; ")
    assert verdict([[5, 0, 0], [60, 0, 0], [35, 0, 0]]).startswith("learned nothing: it answers sky everywhere; ")


def test_no_better_than_the_commonest_class_is_nothing_learned() -> None:
    """Road has 60 of 100 pixels; 58 and 60 hits are no better than always answering it, 61 are."""
    line = "learned nothing: its pixel accuracy, {} %, is not above the 60.0 % of always answering road; "
    assert verdict([[0, 5, 0], [2, 58, 0], [0, 35, 0]]).startswith(line.format("58.0"))
    assert verdict([[1, 4, 0], [1, 59, 0], [0, 35, 0]]).startswith(line.format("60.0"))
    assert verdict([[1, 4, 0], [0, 60, 0], [0, 35, 0]]) == ""


def test_likely_causes_are_named() -> None:
    line = verdict([[0, 5, 0], [0, 60, 0], [0, 35, 0]])
    assert all(cause in line for cause in ("lr", "iterations", "masks", "model.preprocessing"))


def test_a_split_of_a_single_class_says_nothing_about_learning() -> None:
    assert verdict([[0, 0, 0], [0, 60, 0], [0, 0, 0]]) == ""


@pytest.mark.parametrize(("truth", "names"), [([5, 60, 35], []), ([0, 9, 0], ["sky", "car"])])
def test_classes_in_no_mask_are_named(truth: list[int], names: list[str]) -> None:
    assert missing(NAMES, truth) == names
