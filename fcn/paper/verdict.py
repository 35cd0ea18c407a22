"""Whether a difference between two sets of seeds can be told from chance, and what that says of a claim.

Rule: Welch's interval of the difference of the means, at 95 %. With degrees of freedom rounded down, which makes the
interval wider. A claim that one is higher holds if the interval is above 0, is reversed if it is below 0, and is
otherwise not distinguishable. A claim of no difference is consistent with an interval that contains 0, which then says
how large a difference could have been missed.
source   Welch, The generalization of Student's problem when several different population variances are involved,
         Biometrika 34, 1947
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# Two-sided 95 % quantiles of Student's t by degrees of freedom, from 1; tests compare them with scipy.
QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
Expected = Literal["higher", "same", "none"]
Judgement = Literal["holds", "reversed", "not distinguishable", "consistent", "different"]


@dataclass(frozen=True)
class Difference:
    """The difference of two means with its interval, all in the unit of the values."""

    mean: float
    low: float
    high: float

    def judge(self, expected: Expected) -> Judgement:
        """What it says of a claim: that the first is `higher`, that both are the `same`, or of no claim (`none`)."""
        apart = self.low > 0 or self.high < 0
        if expected == "higher" and apart:
            return "holds" if self.low > 0 else "reversed"
        if expected == "same" and not apart:
            return "consistent"
        return "different" if apart else "not distinguishable"


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Welch's interval of the mean of the first minus that of the second, each of at least two values."""
    variances = [statistics.variance(values) / len(values) for values in (first, second)]
    mean = statistics.mean(first) - statistics.mean(second)
    margin = 0.0
    if total := sum(variances):
        terms = (v**2 / (len(values) - 1) for v, values in zip(variances, (first, second), strict=True))
        freedom = max(1, min(len(QUANTILES), math.floor(total**2 / sum(terms) + 1e-9)))
        margin = QUANTILES[freedom - 1] * math.sqrt(total)
    return Difference(mean, mean - margin, mean + margin)
