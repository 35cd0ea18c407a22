"""The four scores against values worked by hand."""

import pytest
import torch

from fcn.data.labels import VOID
from fcn.datasets.label_maps import SIFTFLOW
from fcn.metrics.scores import class_iu, confusion, image_mean_iu, scores
from fcn.runtime.errors import UserError

#            prediction 0  1  2
COUNTS = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]])  # truth 0 (8 pixels), 1 (4 pixels), 2 (none)


def test_the_scores_of_a_small_matrix_are_those_worked_by_hand() -> None:
    result = scores(COUNTS)
    assert result.pixel_accuracy == pytest.approx(9 / 12)
    assert result.mean_accuracy == pytest.approx((6 / 8 + 3 / 4) / 2)
    assert result.mean_iu == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert result.frequency_weighted_iu == pytest.approx((8 * 6 / 9 + 4 * 3 / 6) / 12)


def test_mean_iu_leaves_out_classes_absent_from_both() -> None:
    assert class_iu(COUNTS)[2].isnan()


def test_a_class_that_is_only_predicted_is_left_out_of_the_means() -> None:
    """The paper's footnote 10: of SIFT Flow's classes only those in the test set are averaged."""
    counts = torch.tensor([[3, 1], [0, 0]])
    assert class_iu(counts)[1].isnan()
    assert scores(counts).mean_iu == pytest.approx(3 / 4)
    assert scores(counts).mean_accuracy == pytest.approx(3 / 4)
    assert scores(counts).frequency_weighted_iu == pytest.approx(3 / 4)


def test_siftflows_missing_classes_are_left_out_even_if_a_pixel_is_taken_for_them() -> None:
    missing = [SIFTFLOW.names.index(name) for name in ("cow", "desert", "moon")]
    sky = SIFTFLOW.names.index("sky")
    counts = 2 * torch.eye(33, dtype=torch.int64)  # two pixels of each class, all right
    counts[missing, missing] = 0  # but none of these three
    assert scores(counts).mean_iu == 1
    counts[sky, sky], counts[sky, missing[0]] = 1, 1  # a pixel of sky is taken for a cow
    result = scores(counts)
    assert result.mean_iu == pytest.approx((29 + 1 / 2) / 30)
    assert result.mean_accuracy == pytest.approx((29 + 1 / 2) / 30)


def test_one_class_that_is_always_right_scores_one() -> None:
    result = scores(torch.tensor([[5]]))
    assert set(result.asdict().values()) == {1.0}


def test_confusion_has_truth_in_rows_and_leaves_out_void() -> None:
    mask = torch.tensor([[0, 0, 1], [2, VOID, 1]], dtype=torch.uint8)
    prediction = torch.tensor([[0, 1, 1], [0, 2, 1]])
    assert confusion(mask, prediction, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_confusion_of_a_void_image_is_zero() -> None:
    mask = torch.full((2, 2), VOID, dtype=torch.uint8)
    assert confusion(mask, torch.zeros(2, 2, dtype=torch.int64), 3).sum() == 0


def test_confusion_refuses_shapes_and_classes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="mask is"):
        confusion(torch.zeros(2, 2), torch.zeros(2, 3), 3)
    with pytest.raises(ValueError, match=r"not 0\.\.2"):
        confusion(torch.tensor([[3]]), torch.tensor([[0]]), 3)
    with pytest.raises(ValueError, match=r"mask has classes -1\.\.0, not 0\.\.2"):
        confusion(torch.tensor([[-1, 0]]), torch.tensor([[0, 0]]), 3)
    with pytest.raises(ValueError, match=r"mask has classes 0\.\.256, not 0\.\.2"):
        confusion(torch.tensor([[256, 0]]), torch.tensor([[0, 0]]), 3)
    with pytest.raises(ValueError, match=r"prediction has classes 0\.\.3, not 0\.\.2"):
        confusion(torch.tensor([[0, VOID]]), torch.tensor([[0, 3]]), 3)
    assert confusion(torch.zeros(0, 4, dtype=torch.uint8), torch.zeros(0, 4), 3).tolist() == [[0] * 3] * 3


def test_scores_of_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="every mask of the split is void"):
        scores(torch.zeros(3, 3, dtype=torch.int64))


def test_an_images_mean_iu_is_over_the_classes_in_its_mask_or_prediction() -> None:
    images = torch.tensor(
        [
            [[1, 1, 0], [2, 1, 0], [1, 2, 0]],  # sky: 1 of 2, road: 1 of 2
            [[3, 0, 0], [4, 0, 0], [3, 0, 1]],  # sky: 3 of 4; car, which is not in the mask: 0 of 1
            [[0, 0, 0], [0, 0, 0], [0, 0, 0]],  # all void
        ]
    )
    assert image_mean_iu(images)[:2].tolist() == [0.5, 0.375]
    assert image_mean_iu(images)[2].isnan()
