"""That docs/recipes.md says of each recipe what the recipe's own header says."""

import re
from pathlib import Path

from conftest import ROOT

RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if not path.stem.startswith("own-"))


def row(path: Path) -> str:
    """A recipe and the first sentence of what it stands for, as a row of a table."""
    header = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    stands = re.split(r"\.? expected ", header.partition("stands for ")[2])[0]
    sentence = re.split(r"(?<=[\w)])\. ", stands.strip())[0]
    return f"| [{path.stem}](../recipes/{path.name}) | {sentence} |"


def test_the_list_of_recipes_says_what_their_headers_say() -> None:
    rows = [line for line in (ROOT / "docs" / "recipes.md").read_text().splitlines() if line.startswith("| [")]
    assert rows == [row(path) for path in RECIPES]
