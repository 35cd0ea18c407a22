"""A contact sheet of the places that changed between two states of a data set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcn.comparison.data import Change
from fcn.data.labels import Labels, UInt8
from fcn.figures import sheets

MARGIN = 0.25  # of the changed part's sides, shown around it
LEAST = 32  # pixels shown on each side, at least
SHORT = 24  # characters of a name


def write(changes: Sequence[Change], labels: Labels, path: Path) -> None:
    """Writes a sheet with a row per changed file, before and after: of an edited one, the part that changed."""
    rows, notes, counts = [], [], sheets.counted([])
    for change in (change for change in changes if change.before or change.after):
        for what in change.what:
            files = [side.get(what) for side in (change.before, change.after)]
            part = _part(*files)
            cut = [None if file is None else file[part] for file in files]
            if what == "mask":
                counts += sheets.counted([mask for mask in cut if mask is not None])
                cut = [None if mask is None else sheets.colour(mask, labels) for mask in cut]
            shape = next(file.shape for file in cut if file is not None)
            rows.append([np.full(shape, 255, np.uint8) if file is None else file for file in cut])
            name = change.name if len(change.name) <= SHORT else f"…{change.name[1 - SHORT :]}"
            notes.append([name, f"{what} {change.kind}"])
    sheets.sheet(rows, labels, path, counts, ["before", "after"], notes)


def _part(before: UInt8 | None, after: UInt8 | None) -> tuple[slice, slice]:
    """Rows and columns around the pixels that differ; everything if one is missing or they differ in size."""
    if before is None or after is None or before.shape != after.shape or (before == after).all():
        return slice(None), slice(None)
    differ = before != after
    differ = differ.any(2) if differ.ndim == 3 else differ
    return _range(differ.any(1)), _range(differ.any(0))


def _range(changed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> slice:
    first, last = np.flatnonzero(changed)[[0, -1]]
    size = last + 1 - first
    margin = max(round(MARGIN * size), (LEAST - size + 1) // 2, 0)
    return slice(max(0, int(first - margin)), int(last + 1 + margin))
