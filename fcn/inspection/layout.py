"""Detect a folder's layout: the patterns of images and masks that pair the most files."""

import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np

from fcn.datasets.pairing import keyed
from fcn.io import images
from fcn.io.images import SUFFIXES
from fcn.runtime.errors import UserError

MAX_PATTERNS = 40  # candidates, compared pairwise
SAMPLES = 3  # pairs decoded to tell images from masks
MAX_COLOURS = 1 << 16  # counted per image
MAX_DECODED = 1 << 28  # pixels decoded in total to tell images from masks
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "val"
)


@dataclass(frozen=True)
class Fit:
    """Two patterns that pair files.

    partners       image by mask
    image_colours  number of colours in a sample of the images
    mask_colours   number of colours in their masks
    """

    images: str
    masks: str
    partners: dict[str, str]
    image_colours: float
    mask_colours: float

    @property
    def differs_in_split(self) -> bool:
        """Whether the folders of images and masks are named after different splits, or only one of them is."""
        return _splits(self.images) != _splits(self.masks)

    def rank(self) -> tuple[object, ...]:
        """A sort key; lower is better."""
        return (
            self.image_colours < 2 * self.mask_colours,
            -len(self.partners),
            self.mask_colours - self.image_colours,
            len(self.images) + len(self.masks),
            self.images,
            self.masks,
        )

    def conflicts_with(self, other: "Fit") -> bool:
        """Whether the other fit is plausible too, but pairs some of the same masks with other images."""
        return (
            2 * len(other.partners) >= len(self.partners)
            and 2 * other.mask_colours <= other.image_colours
            and 4 * other.image_colours >= self.image_colours
            and any(self.partners.get(mask, image) != image for mask, image in other.partners.items())
        )

    def options(self) -> str:
        """The command-line options that select it."""
        return f"--images {shlex.quote(self.images)} --masks {shlex.quote(self.masks)}"


def guess(
    folder: Path, names: Iterable[str], images: str | None = None, masks: str | None = None
) -> tuple[str, str, list[str]]:
    """The patterns of images and masks, and warnings about the choice.

    The patterns that pair the most files are chosen, provided that the images hold at least twice as many colours as
    the masks; of equals, those that differ most in colours. If the same masks fit two sets of images, those in a folder
    of the same split are preferred, then those of the same size.

    images, masks   one of the patterns, if it is known
    raises          UserError if no two files form a pair, or two sets of images fit the same masks
    """
    pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
    fits = sorted(_fits(folder, pictures, images, masks), key=Fit.rank)
    if not fits:
        raise UserError(
            f"{folder}: no image and mask share a name; name a folder that holds both, or give their paths with "
            "--images 'PATTERN' --masks 'PATTERN'"
        )
    best = fits[0]
    rivals = [best, *(fit for fit in fits[1:] if best.conflicts_with(fit))]
    same_split = [fit for fit in rivals if not fit.differs_in_split] or rivals
    candidates = [fit for fit in same_split if len(same_split) == 1 or _same_sizes(folder, fit)] or same_split
    chosen = candidates[0]
    for other in candidates[1:]:
        if chosen.conflicts_with(other):
            raise UserError(
                f"{folder}: the masks of {chosen.masks} fit the images of {chosen.images} and of {other.images}; "
                f"add {chosen.options()}, or {other.options()}"
            )
    warnings = []
    others = {fit.images: fit for fit in reversed(rivals) if fit.images != chosen.images and chosen.conflicts_with(fit)}
    if others:
        listed = " and ".join(sorted(others, key=len)[:3])
        warnings.append(
            f"TWO SETS OF IMAGES fit the masks of {chosen.masks} by name: {chosen.images} was chosen, not {listed}; "
            f"if that is wrong, add {next(iter(others.values())).options()}"
        )
    elif chosen.differs_in_split:
        warnings.append(f"images of {chosen.images} are paired with masks of {chosen.masks}: check that they belong")
    return chosen.images, chosen.masks, warnings


def _splits(pattern: str) -> set[str]:
    """Those of train, val and test that occur in the folder names of a pattern."""
    words = re.findall(r"[a-z]+", pattern.rpartition("/")[0].lower())
    return {SPLITS[word] for word in words if word in SPLITS}


def _fits(folder: Path, pictures: list[str], images: str | None, masks: str | None) -> Iterator[Fit]:
    """All pairs of patterns that pair files; the one whose files hold more colours is that of the images.

    Images of one split and masks of another never form a pair.
    """
    counted: Counter[str] = Counter()
    for parent, count in Counter(PurePosixPath(name).parent for name in pictures).items():
        counted.update(dict.fromkeys(_patterns(parent), count))
    counted |= _affixed(pictures)
    # Patterns that match the most files first; of equals, the shorter.
    tried = sorted(counted, key=lambda p: (-counted[p], len(p), p))[:MAX_PATTERNS]
    known = [pattern for pattern in (images, masks) if pattern]
    keys: dict[str, dict[str, str]] = {}
    for pattern in dict.fromkeys(known + tried):
        with suppress(UserError):  # two files have the same key: not a sensible pattern
            keys[pattern] = keyed(pictures, pattern)
    colours = _Colours(folder)
    for one, other in combinations(keys, 2):
        shared = [k for k in keys[one].keys() & keys[other].keys() if keys[one][k] != keys[other][k]]
        splits = _splits(one), _splits(other)
        if not shared or not set(known) <= {one, other} or (all(splits) and not splits[0] & splits[1]):
            continue
        sample = sorted(shared)[:SAMPLES]
        first, second = (sum(colours[keys[pattern][key]] for key in sample) for pattern in (one, other))
        in_order = one == images or (other != images and one != masks and first >= second)
        if not in_order:
            one, other, first, second = other, one, second, first
        yield Fit(one, other, {keys[other][key]: keys[one][key] for key in shared}, first, second)


def _same_sizes(folder: Path, fit: Fit) -> bool:
    """Whether the sampled images have the size of their masks."""
    try:
        return all(
            images.opened(folder / mask).size == images.opened(folder / image).size
            for mask, image in sorted(fit.partners.items())[:SAMPLES]
        )
    except UserError:  # reported later, with the other errors
        return False


def _patterns(parent: PurePosixPath) -> Iterator[str]:
    """Patterns for the files of a folder: images/*, */images/* and so on for images or train/images."""
    folders = parent.parts
    for depth in range(len(folders) + 1):
        yield "/".join([*folders[:depth], "*"])
    for depth in range(1, len(folders)):
        yield "/".join([*"*" * depth, folders[depth], "*"])


def _affixed(names: Iterable[str]) -> Counter[str]:
    """Patterns such as *_mask, masks/*_mask or mask_*, from the prefixes and suffixes of the file names."""
    endings: dict[tuple[str, str], list[str]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for name in names:
        path = PurePosixPath(name).with_suffix("")
        for folder in {"/".join([*path.parts[:1], ""]) if len(path.parts) > 1 else "", f"{path.parent}/"} - {"./"}:
            for sign in "_-.":
                head, _, token = path.name.rpartition(sign)
                if head and not token.isdecimal():
                    endings[folder, sign + token].append(path.name[::-1])
                first, _, rest = path.name.partition(sign)
                if rest and not first.isdecimal():
                    counts[f"{folder}{first}{sign}*"] += 1
    for (folder, token), turned in endings.items():
        common = os.path.commonprefix(turned)[::-1]  # noqa: RUF071 - _gtFine_labelIds, not _labelIds
        for ending in {token, common} if len(turned) > 1 else {token}:
            counts[f"{folder}*{ending}"] += len(turned)
    return counts


class _Colours(dict[str, float]):
    """Number of colours by image, computed on demand; RGB adds 0.5, so that it wins a tie against other modes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.left = folder, MAX_DECODED

    def __missing__(self, name: str) -> float:
        try:
            self[name] = self._count(self.folder / name)
        except UserError:  # reported later, with the other errors
            self[name] = 0
        return self[name]

    def _count(self, path: Path) -> float:
        try:
            picture = images.opened(path)
        except UserError:
            images.band_sizes(path)  # raises unless it is an image of many bands, which is no mask
            return MAX_COLOURS + 1
        rich = picture.mode not in ("1", "L", "P", "I;16")
        self.left -= picture.width * picture.height
        if self.left < 0:  # the budget is used up: guess from the mode
            return MAX_COLOURS if rich else 1
        picture = images.load(path, False)
        colours: set[object] = set()
        for strip in images.strips(picture):
            if picture.mode.startswith(("I", "F")):
                colours.update(np.unique(np.asarray(strip))[: MAX_COLOURS + 1].tolist())
            else:
                colours.update(
                    colour for _, colour in strip.getcolors(MAX_COLOURS) or enumerate(range(MAX_COLOURS + 1))
                )
            if len(colours) > MAX_COLOURS:
                return MAX_COLOURS + 1
        return len(colours) + 0.5 * (picture.mode == "RGB")
