"""Print the result of an inspection, on one screen at most, and show some of its masks."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fcn.data.labels import Labels
from fcn.figures import sheets
from fcn.inspection.inspection import Inspection
from fcn.inspection.scan import RASTER
from fcn.io import images
from fcn.runtime.errors import counted

MAX_MESSAGES = 8  # of each kind: errors, warnings, notes
MAX_ROWS = 20  # codes
MAX_SHOWN = 8  # images of a sheet


def report(result: Inspection) -> Iterator[str]:
    """The report's lines: files, splits, codes; then errors, warnings and notes."""
    pairs = result.matches.pairs
    yield f"{result.source or result.folder}: {counted(len(pairs), 'image with its mask', 'images with masks')}"
    for title, pattern, infos in (
        ("images", result.params.images, result.images()),
        ("masks", result.params.masks, [scan.mask for scan in result.scans if scan.mask]),
    ):
        kinds = _counts([f"{info.kind} {info.mode}" for info in infos])
        shapes = _counts([f"{info.size[0]}x{info.size[1]}" for info in infos])
        yield f"  {title:7} {pattern:20} {kinds}; {shapes}"
    origin = f"random, {result.params.fraction} for val" if result.params.fraction else "lists or subfolders"
    yield f"  splits  {origin}: " + ", ".join(f"{split} {count}" for split, count in result.parts.items())
    yield from _histogram(result)
    for kind, texts in (("error", result.errors), ("warning", result.warnings), ("note", result.notes)):
        yield from (f"{kind}: {text}" for text in texts[:MAX_MESSAGES])
        if len(texts) > MAX_MESSAGES:
            yield f"{kind}: and {len(texts) - MAX_MESSAGES} more"


def sheet(result: Inspection, path: Path) -> bool:
    """Write a sheet of some images and their masks, spread evenly over all; whether there are any to show."""
    pairs = [
        pair
        for pair, seen in zip(result.matches.pairs, result.scans, strict=True)
        if seen.image and seen.image.size[0] * seen.image.size[1] <= RASTER
    ]
    if not pairs or result.labels is None or result.errors:
        return False
    rows, masks = [], []
    for i in np.linspace(0, len(pairs) - 1, min(MAX_SHOWN, len(pairs))).round().astype(int):
        masks.append(images.mask(result.folder / pairs[i].mask, result.labels, upright=True))
        rows.append(
            [images.image(result.folder / pairs[i].image, upright=True), sheets.colour(masks[-1], result.labels)]
        )
    sheets.sheet(rows, result.labels, path, sheets.counted(masks), ("image", "mask"))
    return True


def _counts(values: list[str]) -> str:
    counts = sorted(((n, v) for v, n in Counter(values).items()), reverse=True)
    more = [f"{len(counts) - 3} more"] if len(counts) > 3 else []
    return ", ".join([f"{v} ({n})" for n, v in counts[:3]] + more)


def _histogram(result: Inspection) -> Iterator[str]:
    """A line for each code: class, share of all pixels, number of masks with it, in total and by split."""
    labels = result.labels or Labels((), (), colours=result.in_colours)
    names = {code: name for name, codes in zip(labels.names, labels.codes, strict=True) for code in codes}
    names |= dict.fromkeys(labels.void if result.labels else (), "void")
    total = sum(code.pixels for code in result.codes.values())
    splits = {split: result.masks(split) for split in result.members}
    width = max(6, *(len(split) + 1 for split in splits), 0)
    headers = "".join(f"{split:>{width}}" for split in splits)
    yield f"  {'code':>13}  {'class':20} {'pixels':>9} {'masks':>6}{headers}"
    for code, stats in list(result.codes.items())[:MAX_ROWS]:
        cells = "".join(f"{counts[code]:{width}}" for counts in splits.values())
        name = names.get(code, "unknown")
        yield f"  {labels.spell(code):>13}  {name:20} {stats.pixels / total:9.2%} {stats.masks:6}{cells}"
    if len(result.codes) > MAX_ROWS:
        yield f"  {'and':>13}  {len(result.codes) - MAX_ROWS} more"
