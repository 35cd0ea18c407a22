"""The pictures that names, folders and patterns stand for."""

import glob
from collections.abc import Iterator
from pathlib import Path

from fcn.io.images import SUFFIXES


def find(places: list[str], beside: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The files that names, folders and patterns stand for, each once, folders in alphabetical order.

    beside   a folder whose files no folder stands for: where the results go
    returns  (root, file) for each, absolute: the root is the folder named, or the file's own; and
             what was found nowhere, a line each
    """
    found: dict[Path, Path] = {}
    lost = []
    for place in places:
        # Path.glob takes no absolute pattern.
        paths = [Path(place)] if Path(place).exists() else sorted(map(Path, glob.glob(place, recursive=True)))  # noqa: PTH207
        before = len(found)
        for path in paths:
            for root, file in _files(path.absolute(), beside.resolve()):
                found.setdefault(file, root)
        if not paths:
            lost.append(f"{place} is missing")
        elif len(found) == before and all(path.is_dir() for path in paths):
            lost.append(f"{place} holds no pictures ({', '.join(SUFFIXES)})")
    return [(root, file) for file, root in found.items()], lost


def _files(path: Path, beside: Path) -> Iterator[tuple[Path, Path]]:
    if not path.is_dir():
        yield path.parent, path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.suffix.lower() in SUFFIXES and not hidden and file.is_file():
            inside = path.resolve() != beside and file.resolve().is_relative_to(beside)
            if not inside:
                yield path, file
