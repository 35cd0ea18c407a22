"""Compares the workspace's scores with those of recorded experiments with other seeds, for another kind of machine.

Where bits must differ, weights cannot be compared. The mean IU of each net is compared instead with the prediction
interval of Student's t for one more experiment. If the machine computes as the recorded one did, the probability that
any net is outside is at most 1 - LEVEL (Bonferroni's inequality).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from fcn import params
from fcn.comparison import runs
from fcn.comparison.runs import Run
from fcn.comparison.significance import LEVEL, t_quantile
from fcn.experiments.recipe import RECIPES
from fcn.ladder import NETS
from fcn.runtime.errors import UserError
from fcn.tracking import identity

FEWEST = 3
REPETITION = {"seed", "arithmetic"}  # params that may differ between repetitions of an experiment


@dataclass(frozen=True)
class Band:
    """Where one more value of the same normal distribution lies; fractions."""

    mean: float
    deviation: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def band(values: Sequence[float], bands: int = 1) -> Band:
    """The prediction interval for one more value, at 1 - (1 - LEVEL) / bands.

    values   at least two
    bands    number of intervals that are looked at together
    source   G. J. Hahn, Factors for Calculating Two-Sided Prediction Intervals for Samples from a Normal
             Distribution, JASA 64, 1969: mean ± t · s · sqrt(1 + 1/n), n - 1 degrees of freedom
    """
    count, centre, deviation = len(values), mean(values), stdev(values)
    half = t_quantile(1 - (1 - LEVEL) / bands / 2, count - 1) * deviation * math.sqrt(1 + 1 / count)
    return Band(centre, deviation, centre - half, centre + half)


def verify(name: str | None = None) -> Iterator[str]:
    """Compares the mean IU of each of the workspace's nets with recorded experiments.

    name     of a group of `fcn seeds`, a recipe, or several experiments separated by commas; None for the recipe whose
             params are the workspace's but for the seed
    yields   a line per net
    raises   UserError if a net is outside its band, or if the two cannot be compared
    """
    here, recorded = runs.sides([runs.WORKSPACE, name or _recipe()])
    yield from compared(here.first, recorded.runs)


def compared(here: Run, recorded: Sequence[Run]) -> Iterator[str]:
    """The same of runs; a recorded run with the very scores of the workspace is left out, because it may be its own."""
    for run in recorded:
        _check(here, run)
    others = [run for run in recorded if run.scores != here.scores]
    scored = [{net for net in NETS if f"{net}.mean_iu" in run.scores} for run in (here, *others)]
    if any(nets != scored[0] for nets in scored):
        raise UserError("the workspace and the recorded experiments have scores of different nets")
    scores = [f"{net}.mean_iu" for net in NETS if net in scored[0]]
    spread = {score: [run.scores[score] for run in others] for score in scores}
    if not scores or min(len(set(values)) for values in spread.values()) < FEWEST:
        raise UserError(
            f"{len(others)} recorded experiments have other scores than the workspace; {FEWEST} or more that differ "
            "are needed"
        )
    outside = []
    for score, values in spread.items():
        net, value, expected = NETS[score.partition(".")[0]], here.scores[score], band(values, len(scores))
        if value not in expected:
            outside.append(net)
        yield (
            f"{net}: mean IU {100 * value:.2f}, {'within' if value in expected else 'outside'} "
            f"{100 * expected.low:.2f} to {100 * expected.high:.2f}; "
            f"recorded {100 * expected.mean:.2f} ± {100 * expected.deviation:.2f}, {len(values)} experiments"
        )
    rate = f"{100 * (1 - LEVEL):.0f} % of correct machines fail this test"
    if outside:
        raise UserError(f"{', '.join(outside)}: outside the band of the recorded experiments; {rate}")
    yield f"all within; {rate}"


def _check(here: Run, run: Run) -> None:
    """raises   UserError if the recorded run is not a repetition of the experiment"""
    keys = sorted(here.params.keys() | run.params.keys()) if run.params else []
    differ = [
        key for key in keys if key not in REPETITION and not identity.same(here.params.get(key), run.params.get(key))
    ]
    if differ:
        raise UserError(f"{run.name} is another experiment: {', '.join(differ[:5])} differ")
    if here.data and run.data and here.data != run.data:
        raise UserError(f"{run.name} was scored on other data")


def _recipe() -> str:
    here = identity.flat(params.load().model_dump())
    for path in sorted(RECIPES.glob("*.results.json")):
        recipe = RECIPES / f"{path.name.removesuffix('.results.json')}.yaml"
        values = identity.flat(params.load(recipe).model_dump())
        if all(key in REPETITION or identity.same(here.get(key), value) for key, value in values.items()):
            return recipe.stem
    raise UserError("no recipe with recorded results has these params; name experiments: fcn verify --statistical NAME")
