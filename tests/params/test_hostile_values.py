"""No value of params.yaml is run by a shell, leads a path out of its folder or is part of what DVC deletes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Checkout, changed

from fcn.tracking import identity

MARKER = "run-by-a-shell"
VALUES = (
    f"$(touch {MARKER})/../scenes",
    f"`touch {MARKER}`",
    f"scenes; touch {MARKER} #",
    f"x\ntouch {MARKER}\n",
    f"' && touch {MARKER} && '",
    "../../../../../../../../../../../etc/hostname",
    "/etc",
    "../../fcn",
    "..",
    "*",
    "${lr}",
    "",
    "\0",
)
NAMES = ("data.dataset", "data.folder.name", "data.splits.train", "data.splits.val", "train.init")  # parts of paths
KEYS = set(identity.flat(yaml.safe_load((ROOT / "recipes" / "scenes.yaml").read_text())))
FOLDER, INIT = {"data.folder.name"}, {"train.init"}


def tree(checkout: Checkout) -> dict[str, bytes]:
    """The checkout's files but params.yaml, git's, DVC's own, locks, and the out that DVC deletes before download."""
    found = (path for path in checkout.folder.rglob("*") if path.is_file())
    kept = {path.relative_to(checkout.folder).as_posix(): path for path in found}
    aside = ("params.yaml", ".git/", ".dvc/tmp/", ".dvc/cache/", ".fcn/locks/", ".fcn/dvc.lock", "data/raw/")
    return {name: path.read_bytes() for name, path in kept.items() if not name.startswith(aside)}


def is_refused(printed: str) -> bool:
    """Whether a command said what is wrong in one line of ours, or DVC in one of its own, which it may repeat."""
    ours = re.findall(r"^error: .*", printed, re.MULTILINE)
    theirs = set(re.findall(r"^ERROR: .*", printed, re.MULTILINE))
    return len(ours) <= 1 and len(theirs) == 1 and "Traceback" not in printed


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, dict[str, bytes]]:
    """A checkout with a data set, and its files: each test leaves them as they are."""
    folder = tmp_path_factory.mktemp("checkout")
    checkout = Checkout(folder)
    checkout.run("dvc", "repro", "resize", "backbone")
    checkout.commit()
    return checkout, tree(checkout)


def write(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(changed((ROOT / "recipes" / "scenes.yaml").read_text(), changes)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "value"),
    # DVC itself reads the folder's and the inits' names alone; a stage checks all the others before it does anything.
    [(FOLDER, value) for value in (VALUES[0], VALUES[3], *VALUES[5:8], *VALUES[9:])]
    + [(INIT, value) for value in (VALUES[0], VALUES[5], VALUES[-1])]
    + [(KEYS, VALUES[0]), (KEYS - FOLDER, VALUES[2])],
)
def test_a_hostile_value_in_params_yaml_ends_dvc_repro_and_nothing_else(
    prepared: tuple[Checkout, dict[str, bytes]], keys: set[str], value: str
) -> None:
    checkout, before = prepared
    write(checkout.folder / "params.yaml", dict.fromkeys(keys, value))
    assert is_refused(checkout.run("dvc", "repro", code=1))
    assert tree(checkout) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data.dataset", "data.folder.name"])
def test_a_hostile_value_by_set_param_ends_the_experiment_and_nothing_else(
    prepared: tuple[Checkout, dict[str, bytes]], name: str
) -> None:
    checkout, before = prepared
    checkout.run("git", "checkout", "--quiet", "params.yaml")
    for option in ([], ["--temp"]):
        change = f"{name}={json.dumps(VALUES[0])}"
        assert is_refused(checkout.run("dvc", "exp", "run", *option, "--set-param", change, code=1))
        assert tree(checkout) == before
    checkout.run("git", "checkout", "--quiet", "params.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_with_a_hostile_value_is_refused(prepared: tuple[Checkout, dict[str, bytes]], name: str) -> None:
    checkout, before = prepared
    recipe = checkout.folder / "recipes" / "hostile.yaml"
    for value in VALUES:
        write(recipe, {name: value})
        printed = checkout.run("fcn", "recipe", "hostile", code=1)
        assert printed.startswith(f"error: recipes/hostile.yaml: {name} is ")
        assert printed.count("\n") == 1
    recipe.unlink()
    assert tree(checkout) == before
