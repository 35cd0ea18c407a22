"""Where a folder keeps its images and masks: the two patterns that pair most files."""

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

CANDIDATES = 40  # patterns that are tried against one another
SAMPLES = 3  # pairs looked at to tell images from masks
COLOURS = 1 << 16
DECODED = 1 << 28  # pixels that are decoded to tell images from masks
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "val"
)


@dataclass(frozen=True)
class Fit:
    """Two patterns that pair files.

    partners   the image of each mask
    many, few  colours that some of the images hold, and their masks
    apart      whether one is in a folder called train, test or val, and the other is not
    """

    images: str
    masks: str
    partners: dict[str, str]
    many: float
    few: float

    @property
    def apart(self) -> bool:
        return _splits(self.images) != _splits(self.masks)

    def rank(self) -> tuple[object, ...]:
        """The better, the lower."""
        lengths = len(self.images) + len(self.masks)
        return (self.many < 2 * self.few, -len(self.partners), self.few - self.many, lengths, self.images, self.masks)

    def rivals(self, other: "Fit") -> bool:
        """Whether the other gives masks of these to other pictures, as many of them and as rich in colours."""
        return (
            2 * len(other.partners) >= len(self.partners)
            and 2 * other.few <= other.many
            and 4 * other.many >= self.many
            and any(self.partners.get(mask, image) != image for mask, image in other.partners.items())
        )

    def options(self) -> str:
        """What one types to have it."""
        return f"--images {shlex.quote(self.images)} --masks {shlex.quote(self.masks)}"


def guess(
    folder: Path, names: Iterable[str], images: str | None = None, masks: str | None = None
) -> tuple[str, str, list[str]]:
    """The patterns of images and of masks, and what is worth knowing about the choice.

    Those that pair most files, if the ones hold at least twice as many colours as the others; of equals, those that
    differ most in their colours. Where the same masks fit two sets of images, it is those in a folder of the same
    split, or of the same sizes.
    images, masks   one of the two, if it is known
    raises   UserError if no two files belong together, or two sets of images fit the same masks
    """
    pictured = [name for name in names if name.lower().endswith(SUFFIXES)]
    fits = sorted(_fits(folder, pictured, images, masks), key=Fit.rank)
    if not fits:
        raise UserError(
            f"{folder}: no image and mask share a name; say where they are with --images 'PATTERN' --masks 'PATTERN'"
        )
    best = fits[0]
    rivals = [best, *(fit for fit in fits[1:] if best.rivals(fit))]
    together = [fit for fit in rivals if not fit.apart] or rivals
    chosen = [fit for fit in together if len(together) == 1 or _same_sizes(folder, fit)] or together
    for other in chosen[1:]:
        if chosen[0].rivals(other):
            raise UserError(
                f"{folder}: the masks of {chosen[0].masks} fit the images of {chosen[0].images} and of {other.images}; "
                f"add {chosen[0].options()}, or {other.options()}"
            )
    taken = chosen[0]
    notes = []
    others = {fit.images: fit for fit in reversed(rivals) if fit.images != taken.images and taken.rivals(fit)}
    if others:
        listed = " and ".join(sorted(others, key=len)[:3])
        notes.append(
            f"TWO SETS OF IMAGES fit the masks of {taken.masks} by name: {taken.images} was taken, not {listed}; "
            f"if that is wrong, add {next(iter(others.values())).options()}"
        )
    elif taken.apart:
        notes.append(f"images of {taken.images} are taken to belong to masks of {taken.masks}: look whether they do")
    return taken.images, taken.masks, notes


def _splits(pattern: str) -> set[str]:
    """train, val and test, as far as the names of a pattern's folders hold these words."""
    words = re.findall(r"[a-z]+", pattern.rpartition("/")[0].lower())
    return {SPLITS[word] for word in words if word in SPLITS}


def _fits(folder: Path, pictured: list[str], images: str | None, masks: str | None) -> Iterator[Fit]:
    """Each two patterns that pair files, the one whose files hold more colours as the images'.

    Pictures of one split and masks of another are no pairs, whatever they are called.
    """
    counted: Counter[str] = Counter()
    for parent, count in Counter(PurePosixPath(name).parent for name in pictured).items():
        counted.update(dict.fromkeys(_patterns(parent), count))
    counted |= _affixed(pictured)
    # What fits most files first; of equals the shorter.
    tried = sorted(counted, key=lambda p: (-counted[p], len(p), p))[:CANDIDATES]
    known = [pattern for pattern in (images, masks) if pattern]
    keys: dict[str, dict[str, str]] = {}
    for pattern in dict.fromkeys(known + tried):
        with suppress(UserError):  # of two files with one key: such a pattern is not meant
            keys[pattern] = keyed(pictured, pattern)
    colours = _Colours(folder)
    for one, other in combinations(keys, 2):
        shared = [k for k in keys[one].keys() & keys[other].keys() if keys[one][k] != keys[other][k]]
        between = _splits(one), _splits(other)
        if not shared or not set(known) <= {one, other} or (all(between) and not between[0] & between[1]):
            continue
        some = sorted(shared)[:SAMPLES]
        many, few = (sum(colours[keys[side][key]] for key in some) for side in (one, other))
        first = one == images or (other != images and one != masks and many >= few)
        if not first:
            one, other, many, few = other, one, few, many
        yield Fit(one, other, {keys[other][key]: keys[one][key] for key in shared}, many, few)


def _same_sizes(folder: Path, fit: Fit) -> bool:
    """Whether some images are as large as their masks."""
    try:
        return all(
            images.opened(folder / mask).size == images.opened(folder / image).size
            for mask, image in sorted(fit.partners.items())[:SAMPLES]
        )
    except UserError:  # said later, with what else is wrong
        return False


def _patterns(parent: PurePosixPath) -> Iterator[str]:
    """images/* and */images/* and the like, for files of a folder such as images or train/images."""
    folders = parent.parts
    for depth in range(len(folders) + 1):
        yield "/".join([*folders[:depth], "*"])
    for depth in range(1, len(folders)):
        yield "/".join([*"*" * depth, folders[depth], "*"])


def _affixed(names: Iterable[str]) -> Counter[str]:
    """*_mask, masks/*_mask or mask_*: endings and beginnings that files of a folder have."""
    endings: dict[tuple[str, str], list[str]] = defaultdict(list)
    found: Counter[str] = Counter()
    for name in names:
        path = PurePosixPath(name).with_suffix("")
        for folder in {"/".join([*path.parts[:1], ""]) if len(path.parts) > 1 else "", f"{path.parent}/"} - {"./"}:
            for sign in "_-.":
                head, _, token = path.name.rpartition(sign)
                if head and not token.isdecimal():
                    endings[folder, sign + token].append(path.name[::-1])
                first, _, rest = path.name.partition(sign)
                if rest and not first.isdecimal():
                    found[f"{folder}{first}{sign}*"] += 1
    for (folder, token), turned in endings.items():
        common = os.path.commonprefix(turned)[::-1]  # noqa: RUF071 - _gtFine_labelIds, not _labelIds
        for ending in {token, common} if len(turned) > 1 else {token}:
            found[f"{folder}*{ending}"] += len(turned)
    return found


class _Colours(dict[str, float]):
    """How many each picture holds; of two with the same, one that holds codes counts as less than one in RGB."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.left = folder, DECODED

    def __missing__(self, name: str) -> float:
        try:
            self[name] = self._count(self.folder / name)
        except UserError:  # said later, with what else is wrong
            self[name] = 0
        return self[name]

    def _count(self, path: Path) -> float:
        picture = images.opened(path)
        rich = picture.mode not in ("1", "L", "P", "I;16")
        self.left -= picture.width * picture.height
        if self.left < 0:  # of large pictures not one more
            return COLOURS if rich else 1
        picture = images.load(path, False)
        found: set[object] = set()
        for strip in images.strips(picture):
            if picture.mode.startswith(("I", "F")):
                found.update(np.unique(np.asarray(strip))[: COLOURS + 1].tolist())
            else:
                found.update(colour for _, colour in strip.getcolors(COLOURS) or enumerate(range(COLOURS + 1)))
            if len(found) > COLOURS:
                return COLOURS + 1
        return len(found) + 0.5 * (picture.mode == "RGB")
