"""Hand-made counts of nets that a constant answer beats, and of nets that learned a little."""

import pytest
import torch

from fcn.evaluation.verdict import missing, warning
from fcn.metrics.scores import class_iu, scores

NAMES = ("sky", "road", "car")


def verdict(counts: list[list[int]] | torch.Tensor, images: int = 400, stride: int = 32) -> str:
    matrix = torch.as_tensor(counts)
    names = NAMES if len(matrix) == 3 else tuple(f"class {i}" for i in range(len(matrix)))
    found = scores(matrix)
    return warning(
        names,
        matrix.sum(1).tolist(),
        matrix.sum(0).tolist(),
        pixel_accuracy=found.pixel_accuracy,
        mean_iu=found.mean_iu,
        stride=stride,
        images=images,
    )


def test_one_answer_everywhere_is_a_constant_answer_whichever_it_is() -> None:
    assert verdict([[0, 5, 0], [0, 60, 0], [0, 35, 0]]).startswith("gives one constant answer, road everywhere; ")
    assert verdict([[5, 0, 0], [60, 0, 0], [35, 0, 0]]).startswith("gives one constant answer, sky everywhere; ")


def test_a_net_whose_scores_are_both_not_above_the_constant_answers_is_below_it() -> None:
    """Road has 60 of 100 pixels: always answering it has accuracy 60 % and mean IU 60 / 100 / 3. Here 58 / 100 / 3."""
    line = "is below the constant answer road: pixel accuracy 58.0 % of 60.0 %, mean IU 19.3 % of 20.0 %; "
    assert verdict([[0, 5, 0], [2, 58, 0], [0, 35, 0]]).startswith(line)


def test_a_net_that_left_the_constant_answer_is_weak_until_it_gains_accuracy_or_a_tenth_of_mean_iu() -> None:
    """Sky 1 of 6, road 59 of 99: mean IU (1/6 + 59/99) / 3 = 25.4 %, above 20 %; accuracy is 60 % as before.

    A tenth of the way from 20 % to all is 28 %: with four hits of car more, (1/6 + 55/95 + 4/39) / 3 = 28.3 %.
    """
    line = "is weak: mean IU 25.4 %, above the 20.0 % of the constant answer road, but pixel accuracy 60.0 %, "
    assert verdict([[1, 4, 0], [1, 59, 0], [0, 35, 0]]).startswith(line + "not above its 60.0 %; ")
    assert verdict([[1, 4, 0], [0, 60, 0], [0, 35, 0]]) == ""
    assert verdict([[1, 4, 0], [1, 55, 4], [0, 31, 4]]) == ""


def test_a_net_that_found_a_rare_class_is_not_blamed_for_what_weighting_it_costs_in_accuracy() -> None:
    """95 % background: 93 % accuracy is less; a class of IU 3.5/10.5, with 92.9 % of the other, is learned."""
    counts = torch.tensor([[8950, 550], [150, 350]])
    assert class_iu(counts).tolist() == pytest.approx([8950 / 9650, 350 / 1050])
    assert verdict(counts) == ""


def ade20k() -> torch.Tensor:
    """151 classes of 100 pixels and one of 5,000; sky (1) and building (2) at 35 IU, all else taken for them."""
    truth = torch.full((151,), 100)
    truth[0] = 5000
    counts = torch.zeros(151, 151, dtype=torch.int64)
    counts[:, 0] = truth
    for number in (1, 2):  # 70 of their own 100, and 100 of the common class: 70 / 200 = 35 %
        counts[number, number], counts[number, 0] = 70, 30
        counts[0, number] = 100
    counts[0, 0] = 4800
    return counts


def test_two_of_151_classes_learned_are_not_nothing() -> None:
    """Accuracy 4,940 of 20,000 is below 25 %; mean IU, (0.35 + 0.35 + 4800 / 19860) / 151, is above 25 % / 151."""
    counts = ade20k()
    assert class_iu(counts)[1:3].tolist() == pytest.approx([0.35, 0.35])
    line = verdict(counts)
    assert line.startswith("is weak: mean IU 0.6 %, above the 0.2 % of the constant answer class 0, but pixel accuracy")
    assert "nothing" not in line
    assert "below" not in line


@pytest.mark.parametrize("counts", [[[0, 5, 0], [0, 60, 0], [0, 35, 0]], [[1, 4, 0], [1, 59, 0], [0, 35, 0]]])
def test_two_training_images_are_the_first_cause_to_be_named(counts: list[list[int]]) -> None:
    assert "; likely causes: few images (no class is in more than 2 of the training split), " in verdict(counts, 2)
    assert "few images" not in verdict(counts, 400)


def test_likely_causes_are_named() -> None:
    line = verdict([[0, 5, 0], [0, 60, 0], [0, 35, 0]], stride=16)
    for cause in (
        "lr",
        "iterations",
        "masks",
        "model.preprocessing",
        "finer than the stride of 16 pixels",
        "fcn bound",
    ):
        assert cause in line


@pytest.mark.parametrize("counts", [[[0, 0, 0], [0, 60, 0], [0, 0, 0]], [[0, 0, 0], [9, 51, 0], [0, 0, 0]]])
def test_of_masks_of_a_single_class_it_is_said_that_their_scores_say_nothing(counts: list[list[int]]) -> None:
    line = "was scored on masks of road alone: the constant answer road gets 100 % in every score, so the scores "
    assert verdict(counts).startswith(f"{line}say nothing about how well it separates classes")


@pytest.mark.parametrize(("truth", "names"), [([5, 60, 35], []), ([0, 9, 0], ["sky", "car"])])
def test_classes_in_no_mask_are_named(truth: list[int], names: list[str]) -> None:
    assert missing(NAMES, truth) == names
