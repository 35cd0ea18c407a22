"""docs/recipes.md agrees with the recipes' headers and numbers, and these agree with the published solvers."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

from fcn import params

RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if not path.stem.startswith("own-"))


def row(path: Path) -> str:
    """A table row with a recipe and the first sentence of its "stands for"."""
    header = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    stands = re.split(r"\.? expected ", header.partition("stands for ")[2])[0]
    sentence = re.split(r"(?<=[\w)])\. ", stands.strip())[0]
    return f"| [{path.stem}](../recipes/{path.name}) | {sentence} |"


def test_the_list_of_recipes_says_what_their_headers_say() -> None:
    rows = [line for line in (ROOT / "docs" / "recipes.md").read_text().splitlines() if line.startswith("| [")]
    assert rows == [row(path) for path in RECIPES]


# From the solvers and the loops that call them: learning rates of 32s, 16s and 8s; rounds, and steps per round.
SOLVERS = {
    "voc-heavy": ((1e-10, 1e-12, 1e-14), (25, 4000)),
    "voc-atonce": ((None, None, 1e-10), (75, 4000)),
    "siftflow": ((1e-10, 1e-12, 1e-12), (50, 2000)),
    "nyud-color": ((1e-10, None, None), (50, 2000)),
    "nyud-depth": ((1e-10, None, None), (50, 2000)),
    "nyud-hha": ((1e-10, None, None), (50, 2000)),
    "nyud-rgb-hha": ((1e-12, None, None), (50, 2000)),
    "context59": ((1e-10, 1e-12, 1e-14), (50, 8000)),
    "context60": ((1e-10, 1e-12, 1e-14), (50, 8000)),
    "ade20k": ((None, None, 1e-10), (1, 160_000)),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_numbers_of_a_recipe_are_those_of_the_solver_that_it_stands_for(name: str) -> None:
    recipe, (rates, (rounds, steps)) = params.load(ROOT / "recipes" / f"{name}.yaml"), SOLVERS[name]
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay, recipe.loss) == ("sgd", 0.99, 5e-4, "sum")
    assert (recipe.batch_size, recipe.data.sampling, recipe.seed) == (1, "replacement", 1337)
    assert (recipe.model.upsampling, recipe.model.dropout, recipe.model.pad) == ("fixed", 0.5, 100)
    for stride, rate in zip((32, 16, 8), rates, strict=True):
        rung = recipe.rung(stride)
        assert rung.iterations == (rounds * steps if rate else 0)
        assert (rung.schedule, rung.accumulate) == ("fixed", 1)
        if rate:
            assert recipe.lr * rung.lr_factor == pytest.approx(rate, rel=1e-12)
            assert rounds == 1 or rung.validate_every == steps
    assert recipe.warnings() == []


def test_the_table_of_sources_says_the_same() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text()
    for name, (rates, (rounds, steps)) in SOLVERS.items():
        written = ", ".join(f"{rate:.0e}" if rate else "–" for rate in rates)
        assert f"| {name} | {written} | {rounds} × {steps} |" in text
