"""The space of a search: for each of some params, a range or a list of values.

lr=1e-4..1e-2:log          numbers, uniform in their logarithm
weight_decay=0..1e-3       numbers, uniform
batch_size=4..16           whole numbers, if both ends are and the parameter is not a fraction
optimizer=adam|sgd         a list of values
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from fcn.experiments import group, precheck
from fcn.params import Params
from fcn.runtime.errors import UserError
from fcn.tracking.identity import flat

NUMBER = r"[-+]?(?:\d{1,30}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})(:log)?")
DIGITS = 4  # significant digits of a number that is tried
# What the nets are scored on: with another, the scores of two trials could not be compared.
SCORED = re.compile(r"evaluate\..*|data\.(dataset|splits|scenes|folder|labels|tile|overlap|size\.val)(\..*)?")


@dataclass(frozen=True)
class Axis:
    """A parameter that is searched.

    text    as on the command line, after KEY=
    tested  the ends of the range, or all values of the list
    """

    key: str
    text: str
    tested: tuple[str, ...]
    values: BaseDistribution

    def rounded(self, value: object) -> object:
        """A value within the range, with few digits."""
        if not isinstance(self.values, FloatDistribution) or not isinstance(value, float):
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.values.low), self.values.high)


def parse(texts: Sequence[str], changes: Sequence[str]) -> tuple[list[Axis], list[Params]]:
    """The space, and the params at both ends of each range and for each value of a list, the others unchanged.

    texts     each KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=A|B|C
    changes   of params.yaml, each KEY=VALUE
    raises    UserError if a text is not of this form, or params.yaml could not have one of these values
    """
    fixed = group.changed(changes)
    now, axes, tried = flat(fixed.model_dump()), list[Axis](), list[Params]()
    for text in texts:
        key, _, written = text.partition("=")
        if key not in now:
            raise UserError(
                f"{text}: write KEY=LOW..HIGH or KEY=A|B with a key of params.yaml, such as lr=1e-4..1e-2:log"
            )
        if SCORED.fullmatch(key):
            raise UserError(f"{text}: {key} changes what is scored, so that scores of trials could not be compared")
        if key in [axis.key for axis in axes] + [change.partition("=")[0] for change in changes]:
            raise UserError(f"{text}: {key} is given twice")
        axes.append(_axis(key, written, isinstance(now[key], float) or now[key] == "none"))
        for value in axes[-1].tested:
            params = group.changed([*changes, f"{key}={value}"])
            precheck.check_params(params)
            tried.append(params)
    return axes, tried


def _axis(key: str, text: str, fraction: bool) -> Axis:
    if match := RANGE.fullmatch(text):
        ends, log = (match[1], match[2]), bool(match[3])
        whole = not fraction and all(re.fullmatch(r"[-+]?\d+", end) for end in ends)
        low, high = (int(end) if whole else float(end) for end in ends)
        if not low < high < math.inf or (log and low <= 0):
            raise UserError(f"{key}={text}: the first number must be smaller{' and above 0' if log else ''}")
        kind = IntDistribution if whole else FloatDistribution
        return Axis(key, text, ends, kind(low, high, log=log))  # type: ignore[arg-type]
    values = tuple(text.split("|"))
    if len(values) < 2 or len(set(values)) < len(values) or not all(values):
        raise UserError(f"{key}={text}: write LOW..HIGH, LOW..HIGH:log or A|B; for a fixed value, -S {key}=VALUE")
    return Axis(key, text, values, CategoricalDistribution(values))
