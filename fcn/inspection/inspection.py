"""Inspect a folder of images and masks: layout, classes, splits, and problems to fix before it is used."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from fcn.data.labels import Labels
from fcn.data.scale import Wanted
from fcn.datasets import pairing, sources
from fcn.datasets.pairing import Matches, Pair
from fcn.datasets.sources.folder import SHARED
from fcn.inspection import class_guess, class_table, further_inputs, layout, sizing
from fcn.inspection.class_guess import Code
from fcn.inspection.class_table import Table
from fcn.inspection.scan import ImageInfo, ScannedPair, conversion, scan_pair
from fcn.io.images import SUFFIXES
from fcn.params import Folder, Input
from fcn.runtime import machine
from fcn.runtime.errors import UserError, counted

MIN_PARALLEL = 64  # pairs; for fewer, starting processes takes longer than scanning
FEW_IMAGES = 10  # in all, and in val; the scores of fewer are unreliable
SPLITS = (("train", "val"), ("train", "valid"), ("training", "validation"), ("train", "test"))
HELD_OUT = ("test", "testing")


@dataclass
class Inspection:
    """The result of inspecting a folder.

    scans     one per pair of `matches`
    params    the data.folder section that reads the folder
    codes     statistics by raw code, sorted
    table     the class table, if there is one
    labels    the classes, if they are valid
    members   pairs by split: train, val, and the held-out split if there is one
    inputs    further inputs, of which every image has a file
    bounds    bound of mean IU by size, smallest size first; empty if there is no choice
    errors    problems that must be fixed first
    warnings  assumptions, and problems that make scores unreliable
    notes     other information
    source    the user's folder, if `folder` was converted from its annotations
    """

    folder: Path
    names: list[str]
    matches: Matches
    scans: list[ScannedPair]
    params: Folder
    codes: dict[int, Code]
    table: Table | None = None
    labels: Labels | None = None
    members: dict[str, list[Pair]] = field(default_factory=dict)
    inputs: list[Input] = field(default_factory=list)
    bounds: dict[Wanted, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source: str = ""

    @property
    def parts(self) -> dict[str, int]:
        """Number of images by split, in the order of `members`."""
        return {split: len(pairs) for split, pairs in self.members.items()}

    @property
    def in_colours(self) -> bool:
        """Whether masks hold colours rather than codes."""
        return any(scan.colours for scan in self.scans)

    def masks(self, split: str) -> Counter[int]:
        """Number of masks of a split that hold each code."""
        chosen = set(self.members[split])
        pairs = zip(self.matches.pairs, self.scans, strict=True)
        return Counter(code for pair, scan in pairs if pair in chosen for code in scan.codes)

    def further(self) -> set[str]:
        """The files of the further inputs."""
        return further_inputs.names([pair.image for pair in self.matches.pairs], self.inputs)

    def images(self) -> list[ImageInfo]:
        """Header information of all readable images."""
        return [scan.image for scan in self.scans if scan.image]


def inspect(folder: Path, images: str | None = None, masks: str | None = None) -> Inspection:
    """Read every image header and decode every mask of a folder.

    images, masks   patterns such as images/*; by default, those that pair the most files
    raises          UserError if a pattern is invalid, or no image has a mask
    """
    for pattern in (images, masks):
        if pattern is not None and ("*" not in pattern or pattern.startswith("/") or ".." in pattern.split("/")):
            raise UserError(f"{pattern!r} is not a path with a * inside the folder, such as images/* or *_mask")
    names, warnings = pairing.files(folder), list[str]()
    if images is None or masks is None:
        further = further_inputs.names(names)
        images, masks, warnings = layout.guess(folder, [name for name in names if name not in further], images, masks)
    matches = pairing.match(names, images, masks)
    if not matches.pairs:
        raise UserError(f"{folder}: no image of {images} has a mask of {masks}; * must stand for the same text in both")
    table = class_table.find(folder, names)
    in_colours = bool(table and table.in_colours)
    if len(matches.pairs) < MIN_PARALLEL:
        scans = [scan_pair(folder, pair, in_colours) for pair in matches.pairs]
    else:
        with ProcessPoolExecutor(machine.cores(), get_context("forkserver")) as pool:
            scans = list(pool.map(scan_pair, repeat(folder), matches.pairs, repeat(in_colours), chunksize=8))
    codes: dict[int, Code] = {}
    for pair, scan in zip(matches.pairs, scans, strict=True):
        for code, pixels in scan.codes.items():
            entry = codes.setdefault(code, Code(first=pair.mask))
            entry.pixels, entry.masks = entry.pixels + pixels, entry.masks + 1
    unset = dict.fromkeys(("name", "classes", "void", "fraction", "test", "group"))
    params = Folder.model_construct(images=images, masks=masks, seed=0, **unset)
    result = Inspection(folder, names, matches, scans, params, dict(sorted(codes.items())), table, warnings=warnings)
    result.inputs, warnings = further_inputs.find(folder, names, matches.pairs, scans)
    result.warnings += warnings
    for check in (_pairs, _classes, _splits, _duplicates, _small_samples):
        check(result)
    sizes = sizing.candidates(result.images())
    if len(sizes) > 1 and result.labels and not result.errors:
        result.bounds = sizing.bounds(folder, [pair.mask for pair in matches.pairs], result.labels, sizes)
    return result


def _pairs(result: Inspection) -> None:
    """Check the files of the pairs, and list the files that belong to none."""
    errors = [scan.error for scan in result.scans if scan.error]
    result.errors += errors
    result.errors += filter(None, (sources.name_error(pair.name) for pair in result.matches.pairs))
    for kind, unmatched, other in (
        ("images", result.matches.images, "a mask"),
        ("masks", result.matches.masks, "an image"),
    ):
        if unmatched:
            result.notes.append(f"{kind} without {other}, skipped: {len(unmatched)}, {_some(unmatched)}")
    if result.inputs:
        result.notes.append(
            f"{' and '.join(result.inputs)} beside every image: further inputs of the nets (data.inputs)"
        )
    if others := _uncovered(result):
        listed = [f"{count} in {folder}/" if folder else f"{count} in the top folder" for folder, count in others]
        result.notes.append(
            f"images that match neither pattern, skipped: {_some(listed)}; `fcn predict` accepts images without masks"
        )
    if len({scan.colours for scan in result.scans if not scan.error}) > 1:
        other = next(p.mask for p, s in zip(result.matches.pairs, result.scans, strict=True) if s.colours)
        result.errors.append(f"some masks hold codes, others colours, such as {other}; use one or the other for all")
    rotated = sum(info.rotated for info in result.images())
    if rotated:
        result.notes.append(f"EXIF orientation applied: {counted(rotated, 'image')}")
    for mode, count in Counter(info.mode for info in result.images()).items():
        if how := conversion(mode):
            result.notes.append(f"{how}: {counted(count, 'image')}")


def _uncovered(result: Inspection) -> list[tuple[str, int]]:
    """Folders, and the number of images in each that match neither pattern, in descending order."""
    covered = {name for pair in result.matches.pairs for name in (pair.image, pair.mask)}
    covered |= {*result.matches.images, *result.matches.masks, *result.further()}
    left = (name for name in result.names if name.lower().endswith(SUFFIXES) and name not in covered)
    return Counter(name.rpartition("/")[0] for name in left).most_common()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _classes(result: Inspection) -> None:
    """Set labels, and classes and void in params."""
    guessed = class_guess.guess(result.table, result.codes, result.in_colours)
    result.labels = guessed.labels()
    result.params = result.params.model_copy(
        update={"classes": guessed.classes, "void": " ".join(guessed.void) or None}
    )
    result.errors += guessed.errors
    result.warnings += guessed.warnings
    result.notes[:0] = guessed.notes  # first, because the choice of classes matters most
    if result.labels:
        named = zip(result.labels.names, result.labels.codes, strict=True)
        absent = [name for name, codes in named if not set(codes) & set(result.codes)]
        if absent:
            result.warnings.append(f"in no mask: {counted(len(absent), 'class', 'classes')}, {_some(absent)}")
        if len(result.labels.names) == 1 and not guessed.errors:
            result.errors.append(
                f"only one class, {result.labels.names[0]}: any net would score 100 %; "
                "list every class, including the background, as lines NAME,CODE in classes.csv"
            )


def _splits(result: Inspection) -> None:
    """Use lists or subfolders with the usual names of splits, or else a random fifth of the images for val."""
    random_split = result.params.model_copy(update={"fraction": 0.2})
    for splits, params in [*((splits, result.params) for splits in SPLITS), (("train", "val"), random_split)]:
        try:
            chosen = [pairing.members(result.folder, result.names, result.matches.pairs, s, params) for s in splits]
        except UserError as error:
            if params is random_split or all(f"{split}.txt" in result.names for split in splits):
                result.errors.append(str(error))
                return
        else:
            result.params, result.members = params, dict(zip(splits, chosen, strict=True))
            _hold_out(result)
            return


def _hold_out(result: Inspection) -> None:
    """Add a third list or subfolder with the usual name to the splits, or say in a note why there is none."""
    if result.params.fraction:
        result.notes.append(
            "no held-out split: for scores on images that neither trained nor chose a net, set data.splits.test: test "
            "and data.folder.test: 0.2 in the recipe, which draws a fifth of the images"
        )
        return
    for split in (name for name in HELD_OUT if name not in result.members):
        try:
            pairs = pairing.members(result.folder, result.names, result.matches.pairs, split, result.params)
        except UserError as error:
            if any(name.rpartition("/")[2] == f"{split}.txt" for name in result.names):
                result.notes.append(f"no held-out split: {error}")
        else:
            result.members[split] = pairs
            return


def _duplicates(result: Inspection) -> None:
    """Report identical images: an error across splits, a note within one."""
    split_of = {pair: split for split, pairs in result.members.items() for pair in pairs}
    by_content: dict[str, list[Pair]] = {}
    for pair, scan in zip(result.matches.pairs, result.scans, strict=True):
        if scan.content and pair in split_of:
            by_content.setdefault(scan.content, []).append(pair)
    for pairs in by_content.values():
        named = [f"{pair.image} ({split_of[pair]})" for pair in pairs]
        if len({split_of[pair] for pair in pairs}) > 1:
            result.errors.append(f"the same image is in both splits: {_some(named)}; {SHARED}")
        elif len(pairs) > 1:
            result.notes.append(f"duplicated image: {_some(named)}")


def _small_samples(result: Inspection) -> None:
    """Warn of few images, and of classes that occur in one split only."""
    if not result.members:
        return
    if (count := len(result.matches.pairs)) < FEW_IMAGES:
        result.warnings.append(f"only {counted(count, 'image')}: too few for training")
    train, val, *_ = result.members
    if result.parts[val] < FEW_IMAGES:
        result.warnings.append(
            f"{val} has {counted(result.parts[val], 'image')}: its scores are unreliable; add images, or change "
            "data.folder.fraction"
        )
    if result.labels:
        masks = {split: result.masks(split) for split in result.members}
        for one, other, consequence in (
            (val, train, "the nets cannot learn them"),
            (train, val, "they will have no score"),
        ):
            named = zip(result.labels.names, result.labels.codes, strict=True)
            only = [
                name
                for name, codes in named
                if any(map(masks[one].get, codes)) and not any(map(masks[other].get, codes))
            ]
            if only:
                result.warnings.append(
                    f"only in masks of {one}: {counted(len(only), 'class', 'classes')}, {_some(only)}; {consequence}"
                )
