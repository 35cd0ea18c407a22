"""Turn an inspected folder into an experiment: a recipe, and a copy in data/own/ that DVC tracks."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fcn import params
from fcn.data import scale
from fcn.data.scale import Wanted
from fcn.datasets import pairing, sources
from fcn.datasets.sources.folder import OWN, unlink
from fcn.inspection import sizing
from fcn.inspection.inspection import Inspection
from fcn.inspection.scan import BANDS, RASTER
from fcn.io.images import MAX_FILE_SIZE
from fcn.ladder import STRIDES
from fcn.runtime import commands, files, locks
from fcn.runtime.errors import UserError, counted, shortened

RECIPES = Path("recipes")
LIKE = RECIPES / "scenes.yaml"  # provides nets and iterations: slim, from scratch, minutes on a CPU
SCORES_FILE = Path("metrics/scores.json")
NAME = re.compile(r"[^\W_][\w-]*")
MAX_NAME = 64  # bytes
RESERVED = {"none", "con", "prn", "aux", "nul", *(f"{device}{i}" for device in ("com", "lpt") for i in range(10))}
COMPLETE = "complete"  # marker file: the hidden folder is complete
SIDE = 256  # pixels: the default shorter side of photographs, if the masks give no better size
TILE, OVERLAP = 512, 64  # pixels, for rasters


def recipe(result: Inspection, name: str) -> str:
    """A complete params file for the folder, with the nets of the default experiment."""
    head = (
        f"# {name}: {counted(len(result.matches.pairs), 'image')} of a user's folder, "
        f"{counted(len(result.params.classes or ()), 'class', 'classes')}.\n"
        "#   stands for  no published experiment; FCN-32s, FCN-16s and FCN-8s from scratch with the slim backbone\n"
        "#   expected    unknown; with few images start from ImageNet weights (model: vgg16, torchvision)\n"
        "#   time        `fcn plan` says\n"
        f"#   command     fcn recipe own-{name} && dvc repro\n"
    )
    if not LIKE.is_file():
        raise UserError(f"{LIKE} is missing; run this in the project's folder")
    _, _, body = LIKE.read_text(encoding="utf-8").partition("\n\n")
    text = f"{head}\n{set_values(body, changes(result, name))}"
    params.check(params.parse(text, "the recipe"), "the recipe")
    return text


def excerpt(result: Inspection) -> str:
    """The values in which the recipe differs from the default experiment, as YAML to print."""
    nested: dict[str, Any] = {}
    for key, value in changes(result, "NAME").items():
        *path, last = key.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)


def changes(result: Inspection, name: str) -> dict[str, Any]:
    """The values in which the recipe differs from the default experiment, by dotted key."""
    bands = any(info.mode.endswith(BANDS) for info in result.images())
    inputs = ["bands" if bands else "rgb", *result.inputs]
    folder_params = result.params.model_dump() | {"name": name}
    return {
        "data.dataset": "folder",
        **dict(zip(("data.splits.train", "data.splits.val", "data.splits.test"), result.parts, strict=False)),
        **({"data.inputs": "+".join(inputs)} if inputs != ["rgb"] else {}),
        **sizes(result),
        **{f"data.folder.{key}": value for key, value in folder_params.items()},
    }


def sizes(result: Inspection) -> dict[str, Any]:
    """Size params: photographs are resized as far as their masks permit, rasters are tiled; a crop if sizes differ."""
    image_sizes = {info.size for info in result.images()}
    largest = max(width * height for width, height in image_sizes)
    if largest > RASTER:
        cut = {
            "data.tile": str(params.Size(TILE, TILE)),
            "data.overlap": OVERLAP,
            "data.crop": str(params.Size(SIDE, SIDE)),
        }
        return {"data.size.train": "native", "data.size.val": "native", **cut}
    size: Wanted = SIDE if min(map(min, image_sizes)) > SIDE else "native"
    if result.bounds:
        size = sizing.best(result.bounds)
    targets = {scale.target_size(one, size) for one in image_sizes}
    side = max(32, min(SIDE - 32, min(map(min, targets)) // 32 * 32))
    alike = len(targets) == 1 and max(max(targets)) <= SIDE
    return {
        "data.size.train": size,
        "data.size.val": size,
        "data.crop": "none" if alike else str(params.Size(side, side)),
        "evaluate.size": "native" if largest <= sizing.NATIVE else "input",
    }


def costs(result: Inspection) -> Iterator[str]:
    """The mean IU bound of each size, the chosen size and estimated times on this machine; empty without a choice."""
    if not result.bounds or not LIKE.is_file():
        return
    from fcn.rungs import cost  # and torch, which takes seconds to import

    side = min(min(info.size) for info in result.images())
    yield sizing.report(result.bounds, side)
    experiment = params.check(params.parse(recipe(result, "NAME"), "the recipe"), "the recipe")
    speed = cost.measured_speed()
    num_classes = len(sources.labels(experiment.data).names)
    common = Counter(info.size for info in result.images()).most_common(1)[0][0]

    def forward(stride: int, width: int, height: int) -> int:
        return cost.forward_flops(experiment, num_classes, stride, height, width)

    crop = experiment.data.crop
    step = scale.target_size(common, sizing.best(result.bounds) if crop is None else crop)
    training = sum(cost.rung_flops(experiment, stride, forward(stride, *step)) for stride in STRIDES)
    scoring = {
        size: sum(forward(stride, *scale.target_size(common, size)) for stride in STRIDES) for size in result.bounds
    }
    per_size = ", ".join(f"{flops / speed:.2g} s at {size}" for size, flops in scoring.items())
    duration = cost.duration(training / speed)
    yield f"estimated time here: training on {step[0]}x{step[1]} {duration}, scoring an image {per_size}"


def set_values(text: str, values: dict[str, Any]) -> str:
    """Replace values of a YAML text, by dotted key; comments at the end of lines are kept."""
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
    """raises UserError if a name is not valid for a folder and a recipe on all operating systems"""
    if not NAME.fullmatch(name) or len(name.encode()) > MAX_NAME or name.lower() in RESERVED:
        raise UserError(
            f"--adopt {shortened(name)}: not a valid name; write up to {MAX_NAME} letters, digits, - and _, beginning "
            "with a letter or a digit; none and device names such as con are reserved"
        )


def check_free(name: str) -> None:
    """raises UserError if a name is taken, except by an interrupted adoption, which `adopt` completes or restarts"""
    if _hidden(name).exists():
        return
    for taken in (OWN / name, OWN / f"{name}.dvc", _recipe(name)):
        if taken.exists():
            raise UserError(
                f"{taken} exists; adopt under another name, or copy further images and masks into {OWN / name} and "
                "run `dvc repro`"
            )


def _hidden(name: str) -> Path:
    return OWN / f".{name}.adopting"


def _recipe(name: str) -> Path:
    return RECIPES / f"own-{name}.yaml"


def adopt(result: Inspection, name: str) -> Iterator[str]:
    """Copy the folder to data/own/NAME, track it with DVC and write recipes/own-NAME.yaml; yields progress messages.

    Only files that the recipe needs are copied: images and masks that match the patterns, lists, the class table.
    Links are followed. All files are first written to a hidden folder beside the target and then renamed. If this is
    killed before the renames, only the hidden folder is left; if between them, the next call completes them.

    raises   UserError, and leaves nothing behind, if the folder has errors or the name is taken
    """
    check_name(name)
    if result.errors:
        raise UserError(
            f"{result.source or result.folder} has {counted(len(result.errors), 'error')}, listed above; "
            "fix the folder, then adopt it"
        )
    target, path, hidden = OWN / name, _recipe(name), _hidden(name)
    text = recipe(result, name)
    # The .dvc file first: with it alone, `dvc checkout` can restore the folder.
    renames = {hidden / f"{name}.dvc": OWN / f"{name}.dvc", hidden / name: target, hidden / path.name: path}
    with locks.exclusive(target):
        if (hidden / COMPLETE).is_file() and (OWN / f"{name}.dvc").exists():
            yield f"completing the interrupted adoption of {name}"
        else:
            files.remove(hidden)
            check_free(name)
            try:
                yield from _prepare(result, name, text, hidden)
            except BaseException:
                files.remove(hidden)
                raise
        _ignore(name)
        for source, destination in renames.items():
            if source.exists():
                source.replace(destination)
        yield f"copied to {target}, tracked by DVC as {target}.dvc; wrote {path}"
        yield from _stage([f"{target}.dvc", str(OWN / ".gitignore"), str(path)])
        files.remove(hidden)
    yield f"next: fcn recipe own-{name} && dvc repro, then git add --all && git commit to keep data and scores"


def _prepare(result: Inspection, name: str, text: str, hidden: Path) -> Iterator[str]:
    """Write the copy, its .dvc file and the recipe to the hidden folder, and last the marker COMPLETE."""
    yield from _copy(result, hidden / name)
    try:
        commands.dvc("add", str(hidden / name))
    except UserError as error:
        raise UserError(str(error).replace(str(hidden / name), str(OWN / name))) from None
    unlink(file for file in (hidden / name).rglob("*") if file.is_file())
    files.write_text(hidden / f"own-{name}.yaml", text)
    files.write_text(hidden / COMPLETE, "")


def _copy(result: Inspection, target: Path) -> Iterator[str]:
    matches = result.matches
    pictures = [name for pair in matches.pairs for name in (pair.image, pair.mask)] + matches.images + matches.masks
    texts = [name for name in result.names if name.lower().endswith((".txt", ".csv"))]
    large = [name for name in texts if (result.folder / name).stat().st_size > files.TEXT]
    if large:
        yield f"skipped: {len(large)} text files of more than {files.TEXT >> 20} MB, such as {large[0]}"
    if set(pairing.files(result.folder)) != set(result.names):
        raise UserError(f"{result.folder} has changed since it was inspected; run the same command again")
    for name in sorted({*pictures, *texts, *result.further()} - {*large}):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(files.read_regular(result.folder / name, MAX_FILE_SIZE))


def _ignore(name: str) -> None:
    """Add the folder to data/own/.gitignore, as `dvc add` would in its final location."""
    listing = OWN / ".gitignore"
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    if f"/{name}" not in lines:
        files.write_text(listing, "\n".join([*lines, f"/{name}"]) + "\n")


def _stage(paths: list[str]) -> Iterator[str]:
    """Stage the files with git. With the first user data set, also empty the scores of the published data set."""
    if commands.git("add", "--", *paths) is None:
        yield f"git add failed: queued experiments find the folder only after you git add {', '.join(paths)}"
        return
    if _scores_of_other_data():
        files.write_text(SCORES_FILE, "{}\n")
        commands.git("add", "--", str(SCORES_FILE))
        paths = [*paths, str(SCORES_FILE)]
        yield f"emptied {SCORES_FILE}, which held the scores of other data; they stay in git's history"
    yield f"staged {' '.join(paths)}; commit them before `dvc exp run`, which unstages them"


def _scores_of_other_data() -> bool:
    """Whether the last commit's scores are not of a user's folder, and the file is unchanged since."""
    committed, scores = (commands.git("show", f"HEAD:./{path}") for path in ("params.yaml", SCORES_FILE))
    if committed is None or scores is None or not SCORES_FILE.is_file() or SCORES_FILE.read_text() != scores.decode():
        return False
    try:
        return bool(params.parse(committed.decode(), "params.yaml")["data"]["dataset"] != "folder")
    except (UserError, KeyError, TypeError):  # an older schema, before user folders
        return True
