"""Scores of another machine against those of recorded seeds: the band by hand and scipy, its error rate, refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fcn.comparison import band
from fcn.comparison.runs import Run
from fcn.ladder import NETS
from fcn.runtime.errors import UserError


def run(name: str, *values: float, data: str | None = "d", **params: object) -> Run:
    scores = {f"{net}.mean_iu": value for net, value in zip(NETS, values, strict=True)}
    return Run(name, scores, {"seed": 1, "lr": 0.1} | params, data)


RECORDED = [
    run("a", 0.40, 0.50, 0.60, seed=2),
    run("b", 0.41, 0.52, 0.61, seed=3),
    run("c", 0.42, 0.54, 0.62, seed=4),
]


WORKSPACE = run("workspace", 0.4, 0.5, 0.6)


def test_the_band_of_1_2_3_is_worked_by_hand() -> None:
    found = band.band([1.0, 2.0, 3.0])
    half = 4.30265 * math.sqrt(1 + 1 / 3)  # t of 2 degrees of freedom at 97.5 %, from a table; s = 1
    assert (found.mean, found.deviation) == (2, 1)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-5)


@pytest.mark.parametrize("count", [3, 5])
def test_all_nets_together_are_outside_in_five_per_cent_of_the_cases(count: int) -> None:
    drawn = np.random.default_rng(0).normal(0.6, 0.01, (2000, 3, count + 1))
    bands = [[band.band(net[:-1].tolist(), 3) for net in case] for case in drawn]
    alarms = np.mean(
        [
            any(net[-1] not in b for net, b in zip(case, row, strict=True))
            for case, row in zip(drawn, bands, strict=True)
        ]
    )
    assert alarms == pytest.approx(0.05, abs=0.015)
    half = stats.t.ppf(1 - 0.05 / 6, count - 1) * np.std(drawn[0, 0, :-1], ddof=1) * np.sqrt(1 + 1 / count)
    assert bands[0][0].high - bands[0][0].mean == pytest.approx(half, rel=1e-7)


def test_scores_near_the_recorded_ones_pass_and_a_net_far_from_them_is_named() -> None:
    *lines, last = band.compared(run("workspace", 0.415, 0.515, 0.61), RECORDED)
    # s = 0.01, 0.02, 0.01; t of 2 degrees of freedom at 1 - 0.05 / 6, 7.6488; times sqrt(4 / 3) is 8.832
    assert lines[0] == "FCN-32s: mean IU 41.50, within 32.17 to 49.83; recorded 41.00 ± 1.00, 3 experiments"
    assert lines[1] == "FCN-16s: mean IU 51.50, within 34.34 to 69.66; recorded 52.00 ± 2.00, 3 experiments"
    assert last == "all within; 5 % of correct machines fail this test"
    with pytest.raises(UserError, match="^FCN-8s: outside the band of the recorded experiments; 5 %"):
        list(band.compared(run("workspace", 0.415, 0.515, 0.50), RECORDED))


@pytest.mark.parametrize(
    ("here", "recorded", "line"),
    [
        (run("w", 0.405, 0.5, 0.6, lr=0.2), RECORDED, "a is another experiment: lr differ"),
        (run("w", 0.405, 0.5, 0.6, data="e"), RECORDED, "a was scored on other data"),
        (replace(WORKSPACE, scores={}), RECORDED, "scores of different nets"),
        (
            replace(WORKSPACE, scores={}),
            [replace(one, scores={}) for one in RECORDED],
            "3 or more that differ",
        ),
        (
            run("w", 0.405, 0.5, 0.6),
            RECORDED[:2],
            "2 recorded experiments have other scores than the workspace; 3 or more",
        ),
        (
            run("w", 0.405, 0.5, 0.6),
            [RECORDED[1]] * 4,
            "4 recorded experiments have other scores than the workspace; 3 or more",
        ),
    ],
)
def test_what_is_no_repetition_is_refused(here: Run, recorded: list[Run], line: str) -> None:
    with pytest.raises(UserError, match=line):
        list(band.compared(here, recorded))


def test_the_workspaces_own_recorded_run_does_not_widen_the_band() -> None:
    wrong = run("workspace", 0.4, 0.5, 0.1)
    with pytest.raises(UserError, match="^FCN-8s: outside"):
        list(band.compared(wrong, [*RECORDED, replace(wrong, name="own")]))


def test_another_seed_and_other_arithmetic_are_a_repetition() -> None:
    *_, last = band.compared(run("w", 0.415, 0.52, 0.61, seed=9, arithmetic="portable"), RECORDED)
    assert last.startswith("all within")
