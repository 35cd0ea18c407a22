"""Whether a difference between two sets of seeds can be told from chance, and what that says of a claim.

Rule: Welch's interval of the difference of the means, at 95 %. A claim that one is higher holds if the interval is
above 0, is reversed if it is below 0, and is otherwise not distinguishable. A claim of no difference is consistent with
an interval that contains 0, which then says how large a difference could have been missed.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fcn.comparison import significance

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
    """Welch's interval of the mean of the first minus that of the second, each of at least two values.

    Without width if no value varies.
    """
    if found := significance.welch(second, first):
        return Difference(found.difference, found.low, found.high)
    mean = statistics.mean(first) - statistics.mean(second)
    return Difference(mean, mean, mean)
