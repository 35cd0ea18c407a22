"""Confidence intervals of score differences: bootstrap over images, and Welch's test over seeds.

An interval that excludes 0 is called a difference; if there is none, that happens in 5 % of comparisons.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, variance

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
LEVEL = 0.95
RESAMPLES = 10_000
CHUNK = 1 << 22  # numbers held at once, which bounds memory
ITERATIONS = 500  # of the continued fraction; it needs about the square root of the larger parameter
TINY = 1e-300


@dataclass(frozen=True)
class Interval:
    """A difference with its confidence interval at LEVEL; fractions.

    p   two-sided p-value; None for the bootstrap
    """

    difference: float
    low: float
    high: float
    p: float | None = None

    @property
    def is_difference(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def mean_iu(counts: npt.NDArray[np.number]) -> Numbers:
    """Mean IU over the classes with true pixels, as `fcn.metrics.scores` defines it for a split.

    counts   (..., 3, C) pixels of each class predicted correctly, true and predicted
    returns  (...) fractions, NaN where no class has true pixels
    """
    iu, present = _ratios(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray(iu.sum(-1) / present.sum(-1))


def class_iu(counts: npt.NDArray[np.number]) -> Numbers:
    """(..., C) IU of each class of `counts` as in `mean_iu`, NaN for a class without true pixels."""
    iu, present = _ratios(counts)
    return np.where(present, iu, np.nan)


def _ratios(counts: npt.NDArray[np.number]) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """IU of each class, 0 for one without true pixels; and which classes have true pixels."""
    hits, truth, predicted = np.moveaxis(counts, -2, 0)
    present = truth > 0
    return np.divide(hits, truth + predicted - hits, out=np.zeros(hits.shape), where=present), present


def bootstrap(one: Counts, other: Counts, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The difference in mean IU, other - one, of two nets on the same images, with its bootstrap interval.

    Each resample draws N images with replacement, the same for both nets, and computes mean IU of the summed counts.
    Resamples without any true pixel are left out. The interval is the expanded percentile interval: plain percentiles
    are too narrow for few images, by about sqrt((N - 1) / N) and the difference between Student's t and the normal.

    one, other  (N, 3, C) int64, as `fcn.metrics.counting.Counts.images`
    raises      ValueError if the nets were not scored on the same masks, or on fewer than two images
    source      T. Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015
    """
    images = len(one)
    if one.shape != other.shape or (one[:, 1] != other[:, 1]).any():
        raise ValueError("the nets were not scored on the same masks")
    if images < 2:
        raise ValueError("a bootstrap needs at least two images")
    both = np.stack([one, other], 1).astype(np.float64)  # (N, 2, 3, C); sums of pixels are exact
    values = np.concatenate([_difference(sums) for sums in _resampled(both, seed, resamples)])
    tail = NormalDist().cdf(-math.sqrt(images / (images - 1)) * t_quantile((1 + LEVEL) / 2, images - 1))
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Interval(float(_difference(both.sum(0))), float(low), float(high))


def _difference(counts: Numbers) -> Numbers:
    """(...) difference in mean IU of (..., 2, 3, C) counts."""
    one, other = np.moveaxis(mean_iu(counts), -1, 0)
    return np.asarray(other - one)


def _resampled(both: Numbers, seed: int, resamples: int) -> Iterator[Numbers]:
    """Summed counts of the resamples, in chunks."""
    images, generator = len(both), np.random.default_rng(seed)
    flat = both.reshape(images, -1)
    chunks = math.ceil(resamples * max(flat.shape[1], images) / CHUNK)
    for rows in np.array_split(np.arange(resamples), chunks):
        drawn = generator.integers(0, images, (len(rows), images)) + images * np.arange(len(rows))[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)  # that each image is drawn
        yield (times.astype(np.float64) @ flat).reshape(-1, *both.shape[1:])


def welch(one: Sequence[float], other: Sequence[float]) -> Interval | None:
    """The difference of means, other - one, of independent runs, with Welch's interval and p-value.

    returns  None if a side has fewer than two values, or none of them vary
    source   B. L. Welch, Biometrika 34, 1947: t with a fractional number of degrees of freedom
    """
    if min(len(one), len(other)) < 2:
        return None
    parts = [variance(values) / len(values) for values in (one, other)]
    if not sum(parts):
        return None
    difference, error = mean(other) - mean(one), math.sqrt(sum(parts))
    shares = (part / sum(parts) for part in parts)
    freedom = 1 / sum(share**2 / (len(values) - 1) for share, values in zip(shares, (one, other), strict=True))
    half = error * t_quantile((1 + LEVEL) / 2, freedom)
    return Interval(difference, difference - half, difference + half, t_tails(difference / error, freedom))


def t_tails(t: float, freedom: float) -> float:
    """The probability that a value of Student's t is farther from 0 than `t`.

    source   NIST Digital Library of Mathematical Functions, 8.17
    """
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))


def t_quantile(probability: float, freedom: float) -> float:
    """The value that Student's t is below with this probability, which is above one half."""
    tails = 2 * (1 - probability)
    high = 1.0
    while t_tails(high, freedom) > tails:
        high *= 2
    return _root(lambda t: t_tails(t, freedom) - tails, 0.0, high)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """The root of a decreasing function between `low` and `high`, by bisection."""
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return middle


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularized incomplete beta function I_x(a, b); `rest` is 1 - x, without its rounding.

    source   DLMF 8.17.20 (continued fraction 8.17.22), evaluated by Lentz's method
    """
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - _incomplete_beta(b, a, rest, x)
    if x <= 0:
        return 0.0
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, ITERATIONS):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / _nonzero(1 + step * d), _nonzero(1 + step / c)
            fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(log) * fraction / a


def _nonzero(value: float) -> float:
    return value if abs(value) > TINY else TINY
