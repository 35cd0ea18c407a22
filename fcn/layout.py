"""Where a folder keeps its images and masks: the two patterns that pair most files."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np

from fcn import pictures
from fcn.errors import UserError
from fcn.pairing import keyed
from fcn.pictures import SUFFIXES

CANDIDATES = 40  # patterns that are tried against one another
SAMPLES = 3  # pairs looked at to tell images from masks
COLOURS = 1 << 16


def guess(folder: Path, names: Iterable[str]) -> tuple[str, str]:
    """The patterns of images and of masks.

    Those that pair most files, if the ones hold at least twice as many colours as the others; of
    equals, those that differ most in their colours.
    raises   UserError if no two files belong together
    """
    pictured = [name for name in names if name.lower().endswith(SUFFIXES)]
    counted = Counter(pattern for name in pictured for pattern in set(_patterns(PurePosixPath(name).with_suffix(""))))
    counted |= _affixed(pictured)
    # What fits most files first; of equals the shorter.
    tried = sorted(counted, key=lambda p: (-counted[p], len(p), p))[:CANDIDATES]
    fits: dict[str, dict[str, str]] = {}
    for pattern in tried:
        with suppress(UserError):  # of two files with one key: such a pattern is not meant
            fits[pattern] = keyed(pictured, pattern)
    colours = lru_cache(maxsize=None)(lambda name: _colours(folder / name))
    ranked = []
    for one, other in combinations(fits, 2):
        shared = [k for k in fits[one].keys() & fits[other].keys() if fits[one][k] != fits[other][k]]
        if shared:
            some = sorted(shared)[:SAMPLES]
            many, few = (sum(colours(fits[side][key]) for key in some) for side in (one, other))
            images, masks = (one, other) if many >= few else (other, one)
            many, few = max(many, few), min(many, few)
            ranked.append((many < 2 * few, -len(shared), few - many, len(one) + len(other), images, masks))
    if not ranked:
        raise UserError(
            f"{folder}: no image and mask share a name; say where they are with --images 'PATTERN' --masks 'PATTERN'"
        )
    return min(ranked)[-2:]


def _patterns(stem: PurePosixPath) -> Iterator[str]:
    """images/* and */images/* and the like, for a file such as images/a or train/images/a."""
    *folders, _ = stem.parts
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


def _colours(path: Path) -> float:
    """How many a picture holds; of two with the same, one that holds codes counts as less than one in RGB."""
    try:
        picture = pictures.load(path, False)
    except UserError:  # said later, with what else is wrong
        return 0
    if picture.mode.startswith(("I", "F")):
        return len(np.unique(np.asarray(picture)))
    return len(picture.getcolors(COLOURS) or range(COLOURS + 1)) + 0.5 * (picture.mode == "RGB")
