"""From a folder that was looked at to an experiment: its recipe, and its copy under DVC in data/own/."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fcn import files, params, scale
from fcn.errors import UserError, counted
from fcn.heads import RASTER
from fcn.inspection import Inspection
from fcn.sources.folder import OWN, unlink

RECIPES = Path("recipes")
LIKE = RECIPES / "scenes.yaml"  # its nets and steps: slim, from scratch, minutes on a CPU
SIDE = 256  # pixels, the shorter side that photographs are brought to
TILE, OVERLAP = 512, 64  # pixels, of rasters
NATIVE = 2_000_000  # pixels, up to which masks are scored in their own size


def recipe(found: Inspection, name: str) -> str:
    """A complete params file for the folder, with the default experiment's nets."""
    head = (
        f"# {name}: {counted(len(found.matches.pairs), 'image')} of one's own, "
        f"{counted(len(found.own.classes), 'class', 'classes')}.\n"
        "#   stands for  no published experiment; FCN-32s, FCN-16s and FCN-8s from scratch with the slim backbone\n"
        "#   expected    unknown; with few images start from ImageNet weights (model: vgg16, torchvision)\n"
        "#   time        `fcn plan` says\n"
        f"#   command     fcn recipe own-{name} && dvc repro\n"
    )
    if not LIKE.is_file():
        raise UserError(f"{LIKE} is missing; run this in the project's folder")
    _, _, body = LIKE.read_text(encoding="utf-8").partition("\n\n")
    text = f"{head}\n{put(body, changes(found, name))}"
    params.check(params.parse(text, "the recipe"), "the recipe")
    return text


def excerpt(found: Inspection) -> str:
    """What the recipe says otherwise than the default experiment, as YAML for a person."""
    nested: dict[str, Any] = {}
    for key, value in changes(found, "NAME").items():
        *path, last = key.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)


def changes(found: Inspection, name: str) -> dict[str, Any]:
    """What the recipe says otherwise than the default experiment, by dotted key."""
    own = found.own.model_dump() | {"name": name}
    return {
        "data.dataset": "folder",
        **dict(zip(("data.splits.train", "data.splits.val"), found.parts, strict=True)),
        **sizes(found),
        **{f"data.folder.{key}": value for key, value in own.items()},
    }


def sizes(found: Inspection) -> dict[str, Any]:
    """Sizes for what was found: photographs by their shorter side, rasters in tiles; a crop unless all are alike."""
    seen = {head.size for head in found.heads()}
    largest = max(width * height for width, height in seen)
    if largest > RASTER:
        tile = f"{TILE}x{TILE}"
        cut = {"data.tile": tile, "data.overlap": OVERLAP, "data.crop": f"{SIDE}x{SIDE}"}
        return {"data.size.train": "native", "data.size.val": "native", **cut}
    size: int | str = SIDE if min(map(min, seen)) > SIDE else "native"
    targets = {scale.target_size(one, size) for one in seen}
    side = max(32, min(SIDE - 32, min(map(min, targets)) // 32 * 32))
    alike = len(targets) == 1 and max(max(targets)) <= SIDE
    return {
        "data.size.train": size,
        "data.size.val": size,
        "data.crop": "none" if alike else f"{side}x{side}",
        "evaluate.size": "native" if largest <= NATIVE else "input",
    }


def put(text: str, values: dict[str, Any]) -> str:
    """YAML with values replaced by dotted key; comments stay, at the line's end."""
    left, lines = dict(values), list[str]()
    path: list[str] = []
    for line in text.splitlines():
        fit = re.match(r"( *)(\w+):( *[^#]*?)( *#.*)?$", line)
        if fit:
            path = [*path[: len(fit[1]) // 2], fit[2]]
            key = ".".join(path)
            if key in left:
                value = left.pop(key)
                start = f"{fit[1]}{fit[2]}:{'' if isinstance(value, list) else ' ' + _scalar(value)}"
                line = f"{start:<27} {fit[4].lstrip()}" if fit[4] else start
                lines += (
                    [line, *(f"{fit[1]}  - {_scalar(item)}" for item in value)] if isinstance(value, list) else [line]
                )
                continue
        lines.append(line)
    assert not left, left
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_scalar(key)}: {_scalar(item)}" for key, item in value.items())
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=1 << 20).strip()[1:-1]


def adopt(found: Inspection, name: str) -> Iterator[str]:
    """Copies the folder to data/own/NAME, puts it under DVC and writes recipes/own-NAME.yaml; says what it did.

    Only what the recipe needs is copied: pictures that fit the patterns, lists, the table of classes.
    A link is copied as what it leads to.
    raises   UserError, and leaves nothing, if the folder has errors, or the name is taken
    """
    if found.errors:
        raise UserError(
            f"{found.folder} has {counted(len(found.errors), 'error')}, listed above; mend the folder, then adopt it"
        )
    place, path = OWN / name, RECIPES / f"own-{name}.yaml"
    text = recipe(found, name)
    for taken in (place, place.with_name(f"{name}.dvc"), path):
        if taken.exists():
            raise UserError(f"{taken} exists; adopt under another name, or edit what is there")
    _copy(found, place)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "add", "--quiet", str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"`dvc add {place}` failed ({(done.stderr.strip() or 'no reason given').splitlines()[-1]})")
    except BaseException:
        shutil.rmtree(place)
        raise
    unlink(file for file in place.rglob("*") if file.is_file())
    files.write_text(path, text)
    tracked = [f"{place}.dvc", str(OWN / ".gitignore"), str(path)]
    yield f"copied to {place}, under DVC as {place}.dvc; wrote {path}"
    if subprocess.run(["git", "add", "--", *tracked], capture_output=True, check=False).returncode:
        yield f"queued experiments find it once git knows {', '.join(tracked)}"
    else:
        yield f"git add {' '.join(tracked)}: done; commit them before `dvc exp run`, which un-stages them"
    yield f"next: fcn recipe own-{name} && dvc repro"


def _copy(found: Inspection, place: Path) -> None:
    matches = found.matches
    pictures = [name for pair in matches.pairs for name in (pair.image, pair.mask)] + matches.images + matches.masks
    others = [name for name in found.names if name.lower().endswith((".txt", ".csv"))]
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        for name in pictures + others:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found.folder / name, temporary / name)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
