"""What a folder of pictures and masks holds, and what is wrong with it, before anything is made of it."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from fcn.data.labels import Labels
from fcn.datasets import pairing, sources
from fcn.datasets.pairing import Matches, Pair
from fcn.datasets.sources.folder import SHARED
from fcn.inspection import class_guess, class_table, layout, sizing
from fcn.inspection.class_guess import Code
from fcn.inspection.class_table import Table
from fcn.inspection.scan import ImageInfo, ScannedPair, rule, scan_pair
from fcn.io.images import SUFFIXES
from fcn.params import Folder
from fcn.runtime import machine
from fcn.runtime.errors import UserError, counted

FEW = 64  # pairs for which starting processes takes longer than looking
FEW_IMAGES = 10  # in all: scores of fewer say little
SPLITS = (("train", "val"), ("train", "valid"), ("training", "validation"), ("train", "test"))


@dataclass
class Inspection:
    """A folder, as far as one must know it to learn from it.

    own      the data.folder section that reads it
    table    of the classes, if there is one
    members  pairs by split, train first
    codes    by raw code, in order
    labels   the classes, if they make sense
    bounds   of mean IU by size, where there is a choice; smallest size first
    errors   what must be mended first; warnings, what was assumed or spoils scores; notes, what is good to know
    """

    folder: Path
    names: list[str]
    matches: Matches
    seen: list[ScannedPair]
    own: Folder
    codes: dict[int, Code]
    table: Table | None = None
    labels: Labels | None = None
    members: dict[str, list[Pair]] = field(default_factory=dict)
    bounds: dict[sizing.Size, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def parts(self) -> dict[str, int]:
        """Number of images by split, train first."""
        return {split: len(pairs) for split, pairs in self.members.items()}

    @property
    def in_colours(self) -> bool:
        """Whether masks hold colours, not codes."""
        return any(seen.colours for seen in self.seen)

    def masks(self, split: str) -> Counter[int]:
        """How many masks of a split hold each code."""
        chosen = set(self.members[split])
        pairs = zip(self.matches.pairs, self.seen, strict=True)
        return Counter(code for pair, seen in pairs if pair in chosen for code in seen.codes)

    def heads(self) -> list[ImageInfo]:
        """Those of the images."""
        return [seen.image for seen in self.seen if seen.image]


def inspect(folder: Path, images: str | None = None, masks: str | None = None) -> Inspection:
    """Looks at every head and every mask of a folder.

    images, masks   patterns such as images/*; without them, those that pair most files
    """
    for pattern in (images, masks):
        if pattern is not None and ("*" not in pattern or pattern.startswith("/") or ".." in pattern.split("/")):
            raise UserError(f"{pattern!r} is not a path with a * inside the folder, such as images/* or *_mask")
    names, warnings = pairing.files(folder), list[str]()
    if images is None or masks is None:
        images, masks, warnings = layout.guess(folder, names, images, masks)
    matches = pairing.match(names, images, masks)
    if not matches.pairs:
        raise UserError(f"{folder}: no image of {images} has a mask of {masks}; * must stand for the same text in both")
    table = class_table.find(folder, names)
    in_colours = bool(table and table.in_colours)
    if len(matches.pairs) < FEW:
        seen = [scan_pair(folder, pair, in_colours) for pair in matches.pairs]
    else:
        with ProcessPoolExecutor(machine.cores(), get_context("forkserver")) as pool:
            seen = list(pool.map(scan_pair, repeat(folder), matches.pairs, repeat(in_colours), chunksize=8))
    codes: dict[int, Code] = {}
    for pair, one in zip(matches.pairs, seen, strict=True):
        for code, pixels in one.codes.items():
            entry = codes.setdefault(code, Code(first=pair.mask))
            entry.pixels, entry.masks = entry.pixels + pixels, entry.masks + 1
    own = Folder(
        name="none", images=images, masks=masks, classes="none", void="none", fraction="none", seed=0, group="none"
    )
    found = Inspection(folder, names, matches, seen, own, dict(sorted(codes.items())), table, warnings=warnings)
    for check in (_pairs, _classes, _splits, _duplicates, _shares):
        check(found)
    sizes = sizing.candidates(found.heads())
    if len(sizes) > 1 and found.labels and not found.errors:
        found.bounds = sizing.bounds(folder, [pair.mask for pair in matches.pairs], found.labels, sizes)
    return found


def _pairs(found: Inspection) -> None:
    errors = [seen.error for seen in found.seen if seen.error]
    found.errors += errors
    found.errors += filter(None, (sources.name_error(pair.name) for pair in found.matches.pairs))
    for kind, lonely, other in (
        ("images", found.matches.images, "a mask"),
        ("masks", found.matches.masks, "an image"),
    ):
        if lonely:
            found.notes.append(f"{kind} without {other}, left out: {len(lonely)}, {_some(lonely)}")
    if others := _uncovered(found):
        listed = [f"{count} in {place}/" if place else f"{count} beside the folders" for place, count in others]
        found.notes.append(
            f"pictures that fit neither pattern, left out: {_some(listed)}; `fcn predict` takes images without masks"
        )
    if len({seen.colours for seen in found.seen if not seen.error}) > 1:
        other = next(p.mask for p, s in zip(found.matches.pairs, found.seen, strict=True) if s.colours)
        found.errors.append(f"some masks hold codes, others colours, such as {other}; make them all alike")
    turned = sum(head.turned for head in found.heads())
    if turned:
        found.notes.append(f"turned upright, as their EXIF orientation says: {counted(turned, 'image')}")
    for mode, count in Counter(head.mode for head in found.heads()).items():
        if how := rule(mode):
            found.notes.append(f"{how}: {counted(count, 'image')}")


def _uncovered(found: Inspection) -> list[tuple[str, int]]:
    """Folders, and the number of pictures in each that fit neither pattern; the most first."""
    covered = {name for pair in found.matches.pairs for name in (pair.image, pair.mask)}
    covered |= {*found.matches.images, *found.matches.masks}
    left = (name for name in found.names if name.lower().endswith(SUFFIXES) and name not in covered)
    return Counter(name.rpartition("/")[0] for name in left).most_common()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _classes(found: Inspection) -> None:
    """Fills in classes and void."""
    guessed = class_guess.guess(found.table, found.codes, found.in_colours)
    found.labels = guessed.labels()
    found.own = found.own.model_copy(update={"classes": guessed.classes, "void": " ".join(guessed.void) or "none"})
    found.errors += guessed.errors
    found.warnings += guessed.warnings
    found.notes[:0] = guessed.notes  # first: what is taken for a class matters most
    if found.labels:
        named = zip(found.labels.names, found.labels.codes, strict=True)
        absent = [name for name, codes in named if not set(codes) & set(found.codes)]
        if absent:
            found.warnings.append(f"in no mask: {counted(len(absent), 'class', 'classes')}, {_some(absent)}")
        if len(found.labels.names) == 1 and not guessed.errors:
            found.errors.append(
                f"one class alone, {found.labels.names[0]}: nothing to tell it from, so that any net scores 100 %; "
                "list every class, the background too, as lines NAME,CODE in classes.csv"
            )


def _splits(found: Inspection) -> None:
    """Lists or subfolders that are named as splits usually are, else a fifth of the images for val."""
    drawn = found.own.model_copy(update={"fraction": 0.2})
    for splits, own in [*((splits, found.own) for splits in SPLITS), (("train", "val"), drawn)]:
        try:
            chosen = [pairing.members(found.folder, found.names, found.matches.pairs, s, own) for s in splits]
        except UserError as error:
            if own is drawn or all(f"{split}.txt" in found.names for split in splits):
                found.errors.append(str(error))
                return
        else:
            found.own, found.members = own, dict(zip(splits, chosen, strict=True))
            return


def _duplicates(found: Inspection) -> None:
    """Images that are the same: an error in two splits, worth knowing in one."""
    split_of = {pair: split for split, pairs in found.members.items() for pair in pairs}
    same: dict[str, list[Pair]] = {}
    for pair, seen in zip(found.matches.pairs, found.seen, strict=True):
        if seen.content and pair in split_of:
            same.setdefault(seen.content, []).append(pair)
    for pairs in same.values():
        named = [f"{pair.image} ({split_of[pair]})" for pair in pairs]
        if len({split_of[pair] for pair in pairs}) > 1:
            found.errors.append(f"the same image is in both splits: {_some(named)}; {SHARED}")
        elif len(pairs) > 1:
            found.notes.append(f"the same image: {_some(named)}")


def _shares(found: Inspection) -> None:
    """What makes the scores of a split say little."""
    if not found.members:
        return
    if (count := len(found.matches.pairs)) < FEW_IMAGES:
        found.warnings.append(f"{counted(count, 'image')} in all: too few to learn from, and to trust a score")
    train, val = found.members
    if found.parts[val] == 1:
        found.warnings.append(f"{val} has 1 image: its scores say little; more, or another data.folder.fraction, help")
    if found.labels:
        has = {split: found.masks(split) for split in found.members}
        for one, other, so in (
            (val, train, "the nets cannot learn what they never see"),
            (train, val, "they will have no score"),
        ):
            named = zip(found.labels.names, found.labels.codes, strict=True)
            only = [
                name for name, codes in named if any(map(has[one].get, codes)) and not any(map(has[other].get, codes))
            ]
            if only:
                found.warnings.append(
                    f"in masks of {one} alone: {counted(len(only), 'class', 'classes')}, {_some(only)}; {so}"
                )
