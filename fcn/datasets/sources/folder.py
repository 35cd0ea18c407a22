"""A folder of one's own pictures and masks, which `fcn inspect DIR --adopt NAME` has put under data/own/."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from fcn.data.labels import Labels
from fcn.datasets import class_list, pairing
from fcn.datasets.sources import Sample, list_samples
from fcn.io.archive import Archive
from fcn.params import Data
from fcn.pipeline import cache
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError, counted

OWN = Path("data/own")
SHARED = "delete all but one, with their masks, or name all in the list of one split"


def archives(data: Data) -> tuple[Archive, ...]:
    """None: the folder is here, or nowhere."""
    return ()


def check(data: Data) -> None:
    """raises UserError if there is no such folder, or its classes make no sense"""
    _folder(data)
    labels(data)


def lost(folder: Path) -> str:
    """A warning if files that DVC knew in an adopted folder are gone, with what brings them back; else nothing."""
    gone = cache.missing_files(folder)
    if not gone:
        return ""
    kept = f"{folder}.dvc"
    return (
        f"warning: {folder} has lost {counted(len(gone), 'file')}, such as {gone[0]}, and DVC rewrites {kept}; "
        f"to restore: git restore {kept} && dvc checkout {kept}; if it was meant: git add {kept}"
    )


def labels(data: Data) -> Labels:
    """The classes that params.yaml declares."""
    return class_list.labels(data.folder)


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Copies the images and masks that the two splits name, as they are."""
    folder = _folder(data)
    found = pairing.files(folder)
    matches = pairing.match(found, data.folder.images, data.folder.masks)
    for kind, lonely in (("images", matches.images), ("masks", matches.masks)):
        if lonely:
            print(f"left out, without a partner: {len(lonely)} {kind}, such as {lonely[0]}")
    for split in sorted({data.splits.train, data.splits.val}):
        pairs = pairing.members(folder, found, matches.pairs, split, data.folder)
        for name in (name for pair in pairs for name in (pair.image, pair.mask)):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, out / name)
        lines = (f"{pair.image}\t{pair.mask}\t{pair.name}\n" for pair in pairs)
        (out / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    if Path.cwd().resolve() == machine.root():  # a queue's copy is thrown away
        if warning := lost(folder):
            print(warning)
        unlink(folder / name for name in found)


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of its list; EXIF orientation counts."""
    return list_samples(raw, split, upright=True)


def _folder(data: Data) -> Path:
    folder = OWN / data.folder.name
    if data.folder.name == "none":
        raise UserError("params.yaml: data.folder.name is none; `fcn inspect DIR --adopt NAME` makes a folder yours")
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; `dvc checkout` or `dvc pull` brings it if {folder}.dvc is there")
    return folder


def unlink(paths: Iterable[Path]) -> None:
    """Gives files that share their bytes with DVC's cache bytes of their own: edited in place, they would change it."""
    for path in paths:
        if path.is_symlink() or path.stat().st_nlink > 1:
            with files.replacing(path) as copy:
                shutil.copyfile(path, copy)
