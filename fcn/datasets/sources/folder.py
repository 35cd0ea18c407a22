"""A user's folder of images and masks, which `fcn inspect DIR --adopt NAME` copies to data/own/NAME."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fcn.data.labels import Labels
from fcn.datasets import class_list, pairing
from fcn.datasets.sources import BESIDE, Sample, list_samples
from fcn.io.archive import Archive
from fcn.params import Data, Folder, Input, split_names
from fcn.pipeline import cache
from fcn.runtime import commands, files, machine
from fcn.runtime.errors import UserError, counted

OWN = Path("data/own")
INPUTS: tuple[Input, ...] = ("rgb", "bands", *BESIDE)
SHARED = "delete all but one, with their masks, or name all in the list of one split"


def archives(data: Data) -> tuple[Archive, ...]:
    """None: the folder is local."""
    return ()


def check(data: Data) -> None:
    """raises UserError if the folder does not exist, or its class declaration is invalid"""
    _folder(data)
    labels(data)


def missing_warning(folder: Path) -> str:
    """A warning, with the restore command, if files that DVC tracks in an adopted folder are missing; else empty."""
    dvc_file = Path(f"{folder}.dvc")
    # The file in the workspace is of the last `dvc repro`, perhaps not committed; git's index, of the last `git add`.
    if dvc_file.is_file() and (missing := cache.missing_files(folder, dvc_file.read_bytes())):
        remedy = f"to restore: dvc checkout {dvc_file}; if this was intended: dvc repro && git add {dvc_file}"
    elif missing := cache.missing_files(folder, commands.git("show", f":./{dvc_file}") or b""):
        remedy = (
            f"to restore: git restore {dvc_file} && dvc checkout {dvc_file}; if this was intended: git add {dvc_file}"
        )
    else:
        return ""
    return f"warning: {folder} has lost {counted(len(missing), 'file')}, such as {missing[0]}; {remedy}"


def untracked_warning(folder: Path) -> str:
    """A warning if git does not have an adopted folder's .dvc file, without which a copy of the checkout lacks it."""
    dvc_file = Path(f"{folder}.dvc")
    if not dvc_file.is_file() or commands.git("ls-files", "--error-unmatch", "--", str(dvc_file)) is not None:
        return ""
    return (
        f"warning: git does not have {dvc_file}, so `dvc exp run --temp` and `--queue` do not find {folder}; "
        f"git add --all && git commit"
    )


def labels(data: Data) -> Labels:
    """The classes that params.yaml declares."""
    return class_list.labels(data.folder)


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Copy the images and masks of the splits, and the images of further inputs, unchanged.

    raises   UserError if one of an input is missing
    """
    folder = _folder(data)
    names = pairing.files(folder)
    matches = pairing.match(names, data.folder.images, data.folder.masks)
    for kind, partner, unmatched in (("images", "mask", matches.images), ("masks", "image", matches.masks)):
        if unmatched:
            print(f"skipped: {len(unmatched)} {kind} without {partner}, such as {unmatched[0]}")
    for split in sorted(split_names(data.splits)):
        pairs = pairing.members(folder, names, matches.pairs, split, data.folder)
        used = [name for pair in pairs for name in (pair.image, pair.mask, *_further(folder, pair, data.inputs))]
        for name in used:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, out / name)
        lines = (f"{pair.image}\t{pair.mask}\t{pair.name}\n" for pair in pairs)
        (out / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    if Path.cwd().resolve() == machine.root():  # not in the temporary copy of `dvc exp run --queue` or `--temp`
        if warning := missing_warning(folder):
            print(warning)
        unlink(folder / name for name in names)


def _further(folder: Path, pair: pairing.Pair, inputs: Sequence[Input]) -> list[str]:
    """The files of the further inputs of an image, as paths relative to the folder.

    raises   UserError if one is missing
    """
    names = []
    for kind in BESIDE:
        if kind in inputs:
            names.append(str(Sample(pair.name, Path(pair.image), Path(pair.mask)).beside(kind)))
            if not (folder / names[-1]).is_file():
                why = "; it is not computed from depth, because that needs the camera's intrinsics"
                raise UserError(
                    f"{folder / names[-1]} is missing: data.inputs has {kind}{why if kind == 'hha' else ''}; add it, "
                    "or change data.inputs"
                )
    return names


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of its list; the EXIF orientation is applied."""
    return list_samples(raw, split, upright=True)


def path(folder: Folder) -> Path:
    """The user's folder that the experiment names, whether it is there or not.

    raises   UserError if it names none
    """
    if folder.name is None:
        raise UserError("params.yaml: data.folder.name is none; `fcn inspect DIR --adopt NAME` adopts a folder")
    return OWN / folder.name


def _folder(data: Data) -> Path:
    folder = path(data.folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; `dvc checkout` or `dvc pull` restores it if {folder}.dvc exists")
    return folder


def unlink(paths: Iterable[Path]) -> None:
    """Replace links to DVC's cache by copies: editing a linked file in place would corrupt the cache."""
    for path in paths:
        if path.is_symlink() or path.stat().st_nlink > 1:
            with files.replacing(path) as copy:
                shutil.copyfile(path, copy)
