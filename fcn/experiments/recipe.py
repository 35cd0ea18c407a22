"""Recipes: complete params files of published experiments. Lists, installs, runs and records them."""

import datetime
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

from fcn.ladder import NETS
from fcn.params import check, load, parse
from fcn.runtime import documents, files, machine
from fcn.runtime.commands import dvc, git
from fcn.runtime.errors import UserError

RECIPES = Path("recipes")
PARAMS = Path("params.yaml")


def names() -> dict[str, str]:
    """The first header line of each recipe by name, or the reason why the recipe cannot be read."""
    return {path.stem: _header(path) for path in _paths()}


def _paths() -> list[Path]:
    return sorted(path for path in RECIPES.glob("*.yaml") if path.is_file())


def _header(path: Path) -> str:
    try:
        first = next(iter(documents.read(path).splitlines()), "").lstrip("# ")
    except UserError as error:
        return f"cannot be read: {error}"
    return "".join(c if c.isprintable() else "?" for c in first) or "has no header"


def install(name: str, force: bool = False) -> None:
    """Copies a recipe to params.yaml.

    raises   UserError if there is no such recipe, or if params.yaml has edits that are neither committed nor a recipe
    """
    path = RECIPES / f"{name}.yaml"
    if name not in names():
        raise UserError(f"there is no recipe {name!r}; there is {', '.join(names())}")
    text = documents.read(path)
    wanted = check(parse(text, str(path)), str(path))
    from fcn.experiments import precheck  # imports torch

    precheck.check_params(wanted)
    if not force and PARAMS.exists() and _edited():
        raise UserError("params.yaml has edits that are not committed; commit them, or add --force to lose them")
    files.write_text(PARAMS, text)


def _edited() -> bool:
    content = PARAMS.read_bytes()
    if any(content == path.read_bytes() for path in _paths()):
        return False
    return git("show", f"HEAD:./{PARAMS}") != content


def record(name: str, variants: list[str]) -> Path:
    """Runs all stages of a recipe, then its variants, and writes the results beside the recipe.

    variants   changes such as `seed=2`, each run as a DVC experiment in a temporary copy of the checkout
    returns    recipes/NAME.results.json; the figure for README is written to docs/NAME.png
    """
    install(name)
    began = time.monotonic()
    dvc("repro", "--force", capture=False)
    minutes = (time.monotonic() - began) / 60
    params = load()
    results: dict[str, Any] = {
        "recipe": name,
        "date": datetime.date.today().isoformat(),
        "minutes": round(minutes, 1),
        "machine": machine.facts(),
        "versions": machine.versions(),
        "seed": params.seed,
        "scores": json.loads(Path("metrics/scores.json").read_text()),
        "weights": {net: files.sha256(Path(f"data/weights/{net}.safetensors")) for net in NETS},
        "variants": {variant: _variant(variant) for variant in variants},
    }
    path = RECIPES / f"{name}.results.json"
    files.write_text(path, json.dumps(results, indent=1) + "\n")
    with files.replacing(Path("docs") / f"{name}.png") as picture:
        shutil.copyfile("metrics/figures/evaluate/predictions.png", picture)
    return path


def _variant(change: str) -> Any:
    """Runs the experiment with one value changed, outside the workspace, and returns its scores."""
    name = "record-" + re.sub(r"[^a-z0-9]+", "-", change.lower()).strip("-")
    dvc("exp", "run", "--temp", "--force", "--name", name, "--set-param", change, capture=False)
    refs = (git("for-each-ref", "--format=%(refname)", "refs/exps") or b"").decode().split()
    ref = next(ref for ref in refs if ref.endswith(f"/{name}"))
    scores = git("show", f"{ref}:metrics/scores.json")
    if scores is None:
        raise UserError(f"experiment {name} has no metrics/scores.json; nothing was recorded")
    return json.loads(scores)
