"""Confidence intervals against scipy, against hand-worked values, and by the rate of their false alarms."""

import numpy as np
import pytest
import torch
from scipy import stats

from fcn.comparison import significance
from fcn.comparison.significance import Counts
from fcn.metrics import scores

SHARES = np.array([0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.015, 0.005])  # of pixels, by class
PRESENT = np.array([1, 1, 1, 0.9, 0.7, 0.6, 0.5, 0.3])  # of images, by class


def counted(truth: list[list[int]], predicted: list[list[int]], classes: int) -> Counts:
    """(N, 3, C) counts of masks and predictions, image by image."""
    matrices = [
        scores.confusion(torch.tensor(mask), torch.tensor(answer), classes)
        for mask, answer in zip(truth, predicted, strict=True)
    ]
    return np.stack([torch.stack([m.diagonal(), m.sum(1), m.sum(0)]).numpy() for m in matrices])


@pytest.mark.filterwarnings("ignore:Precision loss")  # scipy, of values that are equal
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1.0, 2.0, 3.0), (2.0, 3.0, 4.5)),
        ((0.51, 0.52, 0.55), (0.6, 0.61)),
        ((1.0, 1.0001), (5.0, 9.0, 3.0, 2.0, 1.0)),
        ((0.7, 0.7), (0.7, 0.71, 0.72)),
    ],
)
def test_welchs_interval_and_p_value_are_scipys(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    found = significance.welch(one, other)
    assert found is not None
    expected = stats.ttest_ind(other, one, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.difference == pytest.approx(np.mean(other) - np.mean(one))


@pytest.mark.parametrize("freedom", [1, 1.5, 3, 30, 1e4, 1e6])
@pytest.mark.parametrize("t", [0.0, 1e-9, 0.3, 1.0, 2.0, 4.0, 50.0])
def test_tails_of_students_t_are_scipys(t: float, freedom: float) -> None:
    assert significance.t_tails(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-7, abs=1e-300)
    assert significance.t_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-7)


def test_welchs_test_needs_two_values_a_side_and_some_spread() -> None:
    assert significance.welch([0.7], [0.6, 0.65]) is None
    assert significance.welch([0.7, 0.7], [0.6, 0.6]) is None


def test_mean_iu_of_counts_is_that_of_the_confusion_matrix() -> None:
    generator = np.random.default_rng(0)
    masks, answers = (generator.integers(0, 5, (6, 40)).tolist() for _ in range(2))
    masks = [[pixel if pixel != 3 else 255 for pixel in mask] for mask in masks]  # no mask has class 3
    counts = counted(masks, answers, 5)
    matrix = scores.confusion(torch.tensor(masks), torch.tensor(answers), 5)
    assert float(significance.mean_iu(counts.sum(0))) == pytest.approx(scores.scores(matrix).mean_iu, abs=1e-15)
    assert significance.class_iu(counts.sum(0)).tolist() == pytest.approx(scores.class_iu(matrix).tolist(), nan_ok=True)


def test_a_bootstrap_draws_images_and_sums_their_counts() -> None:
    """Of two images of 10 and 2 pixels, the interval spans all three resamples: both, or one of them twice."""
    truth = [[0] * 5 + [1] * 5, [0, 1]]
    one = counted(truth, [[0] * 10, [0, 1]], 2)  # IU of the first image 5/10, 0; of the second 1, 1
    other = counted(truth, [[0] * 5 + [1] * 5, [1, 0]], 2)  # 1, 1; 0, 0
    # Both: one has 6/11 and 1/6, other 5/7 and 5/7. Averages of the images' own values would differ by 0.125.
    both = (5 / 7 + 5 / 7) / 2 - (6 / 11 + 1 / 6) / 2
    found = significance.bootstrap(one, other)
    assert found.difference == pytest.approx(both)
    assert (found.low, found.high) == pytest.approx((-1.0, 0.75))
    assert not found.is_difference


def test_a_bootstrap_is_the_same_every_time_and_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = null(np.random.default_rng(3), 30)
    found = significance.bootstrap(one, other)
    assert significance.bootstrap(one, other) == found
    monkeypatch.setattr(significance, "CHUNK", 1000)
    assert significance.bootstrap(one, other) == found
    assert significance.bootstrap(one, other, seed=1) != found


def test_a_net_that_is_better_on_every_image_is_a_difference_and_the_same_net_is_none() -> None:
    one, other = null(np.random.default_rng(3), 30)
    better = other.copy()
    better[:, 0] = better[:, 1] * 0.99
    better[:, 2] = better[:, 1]
    found = significance.bootstrap(one, better)
    assert found.is_difference
    assert found.low > 0
    assert significance.bootstrap(one, one) == significance.Interval(0.0, 0.0, 0.0)


def test_counts_of_other_masks_or_of_one_image_are_refused() -> None:
    one, other = null(np.random.default_rng(3), 30)
    with pytest.raises(ValueError, match="same masks"):
        significance.bootstrap(one, other[:29])
    changed = other.copy()
    changed[0, 1, 0] += 1
    with pytest.raises(ValueError, match="same masks"):
        significance.bootstrap(one, changed)
    with pytest.raises(ValueError, match="two images"):
        significance.bootstrap(one[:1], other[:1])


def null(generator: np.random.Generator, images: int) -> tuple[Counts, Counts]:
    """Counts of two nets that are equally good: both err by the same law, independently, on the same masks."""
    classes = len(SHARES)
    present = generator.random((images, classes)) < PRESENT
    truth = (generator.gamma(2.0, 1.0, (images, classes)) * SHARES * 16384 * present).astype(np.int64)
    ease = generator.beta(6, 2, (images, classes))
    nets = []
    for _ in range(2):
        hits = (truth * np.clip(ease + generator.normal(0, 0.12, ease.shape), 0, 1)).astype(np.int64)
        shares = generator.dirichlet(np.ones(classes), images)
        wrong = ((truth - hits).sum(1)[:, None] * shares).astype(np.int64)
        nets.append(np.stack([hits, truth, hits + wrong], 1))
    return nets[0], nets[1]


ALARMS = (70, 130)  # of 2,000: 5 ± 1.5 %, which a test at 5 % meets in 99.8 % of seeds


@pytest.mark.slow
@pytest.mark.parametrize("images", [50, 100])
def test_the_bootstrap_raises_a_false_alarm_in_one_of_20_comparisons_of_equal_nets(images: int) -> None:
    generator = np.random.default_rng(images)
    alarms = sum(
        significance.bootstrap(*null(generator, images), seed=i, resamples=1000).is_difference for i in range(2000)
    )
    print(f"{images} images: {alarms / 20} % false alarms")
    assert ALARMS[0] <= alarms <= ALARMS[1]


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_welchs_test_raises_a_false_alarm_in_one_of_20_comparisons_of_equal_experiments(runs: int) -> None:
    generator = np.random.default_rng(runs)
    tests = (
        significance.welch(generator.normal(0.7, 0.003, runs), generator.normal(0.7, 0.006, runs)) for _ in range(2000)
    )
    alarms = sum(test is not None and test.is_difference for test in tests)
    print(f"{runs} runs: {alarms / 20} % false alarms")
    assert ALARMS[0] <= alarms <= ALARMS[1]
