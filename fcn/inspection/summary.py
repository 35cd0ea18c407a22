"""What was found in a folder, for a person: a screen at most."""

from collections import Counter
from collections.abc import Iterator

from fcn.data.labels import Labels
from fcn.inspection.inspection import Inspection
from fcn.runtime.errors import counted

SHOWN = 8  # findings of a kind
ROWS = 20  # codes


def report(found: Inspection) -> Iterator[str]:
    """A line for each thing worth knowing, errors and notes last."""
    pairs = found.matches.pairs
    yield f"{found.folder}: {counted(len(pairs), 'image with its mask', 'images with masks')}"
    for title, pattern, heads in (
        ("images", found.own.images, found.heads()),
        ("masks", found.own.masks, [seen.mask for seen in found.seen if seen.mask]),
    ):
        kinds = _counts([f"{head.kind} {head.mode}" for head in heads])
        shapes = _counts([f"{head.size[0]}x{head.size[1]}" for head in heads])
        yield f"  {title:7} {pattern:20} {kinds}; {shapes}"
    how = "lists or subfolders" if found.own.fraction == "none" else f"drawn, {found.own.fraction} for val"
    yield f"  splits  {how}: " + ", ".join(f"{split} {count}" for split, count in found.parts.items())
    yield from _histogram(found)
    for kind, texts in (("error", found.errors), ("warning", found.warnings), ("note", found.notes)):
        yield from (f"{kind}: {text}" for text in texts[:SHOWN])
        if len(texts) > SHOWN:
            yield f"{kind}: and {len(texts) - SHOWN} more"


def _counts(values: list[str]) -> str:
    counts = sorted(((n, v) for v, n in Counter(values).items()), reverse=True)
    more = [f"{len(counts) - 3} more"] if len(counts) > 3 else []
    return ", ".join([f"{v} ({n})" for n, v in counts[:3]] + more)


def _histogram(found: Inspection) -> Iterator[str]:
    """A line for each code: its class, its share of all pixels, in how many masks it is, in all and by split."""
    labels = found.labels or Labels((), (), colours=found.in_colours)
    names = {code: name for name, codes in zip(labels.names, labels.codes, strict=True) for code in codes}
    names |= dict.fromkeys(labels.void if found.labels else (), "void")
    total = sum(code.pixels for code in found.codes.values())
    splits = {split: found.masks(split) for split in found.members}
    wide = max(6, *(len(split) + 1 for split in splits), 0)
    heads = "".join(f"{split:>{wide}}" for split in splits)
    yield f"  {'code':>13}  {'class':20} {'pixels':>9} {'masks':>6}{heads}"
    for code, seen in list(found.codes.items())[:ROWS]:
        cells = "".join(f"{counts[code]:{wide}}" for counts in splits.values())
        name = names.get(code, "unknown")
        yield f"  {labels.spell(code):>13}  {name:20} {seen.pixels / total:9.2%} {seen.masks:6}{cells}"
    if len(found.codes) > ROWS:
        yield f"  {'and':>13}  {len(found.codes) - ROWS} more"
