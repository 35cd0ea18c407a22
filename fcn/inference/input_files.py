"""Find the image files given by file names, folders and glob patterns."""

import glob
from collections.abc import Iterator
from pathlib import Path

from fcn.io.images import SUFFIXES


def find(arguments: list[str], exclude: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The files given by names, folders and patterns, each once; folders are read in alphabetical order.

    exclude  a folder that is skipped inside other folders: the output folder
    returns  absolute (root, file) pairs, where root is the given folder or the file's parent;
             and an error message for each argument without files
    """
    found: dict[Path, Path] = {}
    errors = []
    for argument in arguments:
        # Path.glob accepts no absolute pattern.
        paths = [Path(argument)] if Path(argument).exists() else sorted(map(Path, glob.glob(argument, recursive=True)))  # noqa: PTH207
        before = len(found)
        for path in paths:
            for root, file in _files(path.absolute(), exclude.resolve()):
                found.setdefault(file, root)
        if not paths:
            errors.append(f"{argument} is missing")
        elif len(found) == before and all(path.is_dir() for path in paths):
            errors.append(f"{argument} holds no images ({', '.join(SUFFIXES)})")
    return [(root, file) for file, root in found.items()], errors


def _files(path: Path, exclude: Path) -> Iterator[tuple[Path, Path]]:
    if not path.is_dir():
        yield path.parent, path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.suffix.lower() in SUFFIXES and not hidden and file.is_file():
            excluded = path.resolve() != exclude and file.resolve().is_relative_to(exclude)
            if not excluded:
                yield path, file
