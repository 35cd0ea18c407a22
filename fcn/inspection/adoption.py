"""From a folder that was looked at to an experiment: its recipe, and its copy under DVC in data/own/."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fcn import params
from fcn.data import scale
from fcn.datasets import pairing, sources
from fcn.datasets.sources.folder import OWN, unlink
from fcn.inspection import sizing
from fcn.inspection.inspection import Inspection
from fcn.inspection.scan import RASTER
from fcn.io.images import LARGEST_FILE
from fcn.runtime import files
from fcn.runtime.errors import UserError, counted, shortened

RECIPES = Path("recipes")
LIKE = RECIPES / "scenes.yaml"  # its nets and steps: slim, from scratch, minutes on a CPU
SCORES = Path("metrics/scores.json")
NAME = re.compile(r"[^\W_][\w-]*")
LONGEST = 64  # bytes of a name
RESERVED = {"none", "con", "prn", "aux", "nul", *(f"{device}{i}" for device in ("com", "lpt") for i in range(10))}
COMPLETE = "complete"  # the file that says that all else is in the hidden folder
SIDE = 256  # pixels, the shorter side that photographs are brought to where nothing is known of their masks
TILE, OVERLAP = 512, 64  # pixels, of rasters


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
    text = f"{head}\n{set_values(body, changes(found, name))}"
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
    """Sizes for what was found: photographs as their masks bear it, rasters in tiles; a crop unless all are alike."""
    seen = {head.size for head in found.heads()}
    largest = max(width * height for width, height in seen)
    if largest > RASTER:
        tile = f"{TILE}x{TILE}"
        cut = {"data.tile": tile, "data.overlap": OVERLAP, "data.crop": f"{SIDE}x{SIDE}"}
        return {"data.size.train": "native", "data.size.val": "native", **cut}
    size = sizing.best(found.bounds) if found.bounds else SIDE if min(map(min, seen)) > SIDE else "native"
    targets = {scale.target_size(one, size) for one in seen}
    side = max(32, min(SIDE - 32, min(map(min, targets)) // 32 * 32))
    alike = len(targets) == 1 and max(max(targets)) <= SIDE
    return {
        "data.size.train": size,
        "data.size.val": size,
        "data.crop": "none" if alike else f"{side}x{side}",
        "evaluate.size": "native" if largest <= sizing.NATIVE else "input",
    }


def costs(found: Inspection) -> Iterator[str]:
    """What each size bounds, which is taken, and about what it takes here; nothing where there is no choice."""
    if not found.bounds or not LIKE.is_file():
        return
    from fcn.training import cost  # and torch, which takes seconds to import

    side = min(min(head.size) for head in found.heads())
    yield sizing.report(found.bounds, side)
    experiment = params.check(params.parse(recipe(found, "NAME"), "the recipe"), "the recipe")
    speed = cost.measured_speed()
    num_classes = len(sources.labels(experiment.data).names)
    common = Counter(head.size for head in found.heads()).most_common(1)[0][0]

    def forward(stride: int, width: int, height: int) -> int:
        return cost.forward_flops(experiment, num_classes, stride, height, width)

    crop = experiment.data.crop
    step = scale.target_size(common, sizing.best(found.bounds) if crop == "none" else crop)
    training = sum(cost.rung_flops(experiment, stride, forward(stride, *step)) for stride in params.STRIDES)
    scoring = {
        size: sum(forward(stride, *scale.target_size(common, size)) for stride in params.STRIDES)
        for size in found.bounds
    }
    each = ", ".join(f"{flops / speed:.2g} s at {size}" for size, flops in scoring.items())
    took = cost.duration(training / speed)
    yield f"about what that takes here: training on {step[0]}x{step[1]} {took}, scoring an image {each}"


def set_values(text: str, values: dict[str, Any]) -> str:
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


def check_name(name: str) -> None:
    """raises UserError if a name cannot be that of a folder and of a recipe, here and on other systems"""
    if not NAME.fullmatch(name) or len(name.encode()) > LONGEST or name.lower() in RESERVED:
        raise UserError(
            f"--adopt {shortened(name)}: a name is up to {LONGEST} letters, digits, - and _, begins with a letter or a "
            "digit, and is neither none nor a device's, such as con"
        )


def check_free(name: str) -> None:
    """raises UserError if a name is taken; of an adoption that was cut off `adopt` takes care, and decides then"""
    if _hidden(name).exists():
        return
    for taken in (OWN / name, OWN / f"{name}.dvc", _recipe(name)):
        if taken.exists():
            raise UserError(f"{taken} exists; adopt under another name, or edit what is there")


def _hidden(name: str) -> Path:
    return OWN / f".{name}.adopting"


def _recipe(name: str) -> Path:
    return RECIPES / f"own-{name}.yaml"


def adopt(found: Inspection, name: str) -> Iterator[str]:
    """Copies the folder to data/own/NAME, puts it under DVC and writes recipes/own-NAME.yaml; says what it did.

    Only what the recipe needs is copied: pictures that fit the patterns, lists, the table of classes.
    A link is copied as what it leads to. Everything is made in a hidden folder beside it and renamed in the end: killed
    before, this leaves nothing else; killed between the renames, the next call completes them.
    raises   UserError, and leaves nothing, if the folder has errors, or the name is taken
    """
    check_name(name)
    if found.errors:
        raise UserError(
            f"{found.folder} has {counted(len(found.errors), 'error')}, listed above; mend the folder, then adopt it"
        )
    place, path, hidden = OWN / name, _recipe(name), _hidden(name)
    text = recipe(found, name)
    # In this order: of a .dvc file whose folder is missing `dvc checkout` makes a whole.
    renames = {hidden / f"{name}.dvc": OWN / f"{name}.dvc", hidden / name: place, hidden / path.name: path}
    with files.exclusive(place):
        if (hidden / COMPLETE).is_file() and (OWN / f"{name}.dvc").exists():
            yield f"completing the adoption of {name}, which was cut off"
        else:
            files.remove(hidden)
            check_free(name)
            try:
                yield from _prepare(found, name, text, hidden)
            except BaseException:
                files.remove(hidden)
                raise
        _ignore(name)
        for made, wanted in renames.items():
            if made.exists():
                made.replace(wanted)
        yield f"copied to {place}, under DVC as {place}.dvc; wrote {path}"
        yield from _stage([f"{place}.dvc", str(OWN / ".gitignore"), str(path)])
        files.remove(hidden)
    yield f"next: fcn recipe own-{name} && dvc repro, then git add --all && git commit: it holds your data and scores"


def _prepare(found: Inspection, name: str, text: str, hidden: Path) -> Iterator[str]:
    """Puts the copy, its .dvc file and the recipe into the hidden folder; a last file says that all are there."""
    yield from _copy(found, hidden / name)
    words = [sys.executable, "-m", "dvc", "add", str(hidden / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line.strip() for line in (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()]
        reasons = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        raise UserError(f"`dvc add {OWN / name}` failed ({(reasons or said)[-1]})")
    unlink(file for file in (hidden / name).rglob("*") if file.is_file())
    files.write_text(hidden / f"own-{name}.yaml", text)
    files.write_text(hidden / COMPLETE, "")


def _copy(found: Inspection, place: Path) -> Iterator[str]:
    matches = found.matches
    pictures = [name for pair in matches.pairs for name in (pair.image, pair.mask)] + matches.images + matches.masks
    texts = [name for name in found.names if name.lower().endswith((".txt", ".csv"))]
    large = [name for name in texts if (found.folder / name).stat().st_size > files.TEXT]
    if large:
        yield f"left out, no list or table: {len(large)} texts of more than {files.TEXT >> 20} MB, such as {large[0]}"
    if set(pairing.files(found.folder)) != set(found.names):
        raise UserError(f"{found.folder} has changed since it was looked at; type the same command again")
    for name in sorted({*pictures, *texts} - {*large}):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(files.read_regular(found.folder / name, LARGEST_FILE))


def _ignore(name: str) -> None:
    """What `dvc add` does for git where the folder will be."""
    listing = OWN / ".gitignore"
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    if f"/{name}" not in lines:
        files.write_text(listing, "\n".join([*lines, f"/{name}"]) + "\n")


def _stage(paths: list[str]) -> Iterator[str]:
    """Hands the files to git, and with the first data of one's own takes the scores of other data out of the way."""
    if subprocess.run(["git", "add", "--", *paths], capture_output=True, check=False).returncode:
        yield f"queued experiments find it once git knows {', '.join(paths)}"
        return
    if _foreign():
        files.write_text(SCORES, "{}\n")
        subprocess.run(["git", "add", "--", str(SCORES)], capture_output=True, check=False)
        paths = [*paths, str(SCORES)]
        yield f"emptied {SCORES}, which had the scores of other data; git keeps them"
    yield f"git add {' '.join(paths)}: done; commit them before `dvc exp run`, which un-stages them"


def _foreign() -> bool:
    """Whether the last commit's scores are of no folder of one's own, and lie here as they were committed."""
    kept, scores = (
        subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, text=True, check=False)
        for path in ("params.yaml", SCORES)
    )
    if kept.returncode or scores.returncode or not SCORES.is_file() or SCORES.read_text() != scores.stdout:
        return False
    try:
        return bool(params.parse(kept.stdout, "params.yaml")["data"]["dataset"] != "folder")
    except (UserError, KeyError, TypeError):  # of another age; nobody's own
        return True
