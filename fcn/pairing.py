"""Images and masks of a folder, paired by their names, and dealt out to splits."""

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn.errors import UserError
from fcn.params import Folder
from fcn.pictures import SUFFIXES


@dataclass(frozen=True)
class Pair:
    """An image and its mask, as paths inside the folder; `key` is what their names have in common."""

    key: str
    image: str
    mask: str

    @property
    def name(self) -> str:
        """The key as a file name."""
        return self.key.replace("/", "_")


@dataclass(frozen=True)
class Matches:
    """The pairs of a folder, in order, and the images and masks that have no partner."""

    pairs: list[Pair]
    images: list[str]
    masks: list[str]


def files(folder: Path) -> list[str]:
    """Every file below a folder, as a path inside it, in order; links are followed, hidden files left out.

    raises   UserError if there is no such folder, or a name cannot stand in a list file
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder")
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        if here.resolve() in seen:  # a link back up
            folders.clear()
            continue
        seen.add(here.resolve())
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        paths = (here / name for name in names if not name.startswith("."))
        found += [path.relative_to(folder).as_posix() for path in paths if path.is_file() or path.is_symlink()]
    for name in found:
        # Tabs and ends of lines, and bytes that are no UTF-8.
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise UserError(f"{folder}: the name {name!r} has characters that are no letters; rename it")
    return sorted(found)


def match(names: Iterable[str], images: str, masks: str) -> Matches:
    """Images and masks by what `*` stands for; what fits both patterns belongs to the longer one.

    raises   UserError if two files claim the same place, or two pairs the same name
    """
    pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
    if len(images) > len(masks):
        by_image = keyed(pictures, images)
        by_mask = keyed(set(pictures) - set(by_image.values()), masks)
    else:
        by_mask = keyed(pictures, masks)
        by_image = keyed(set(pictures) - set(by_mask.values()), images)
    pairs = [Pair(key, by_image[key], by_mask[key]) for key in sorted(by_image.keys() & by_mask.keys())]
    once: dict[str, Pair] = {}
    for pair in pairs:
        if once.setdefault(pair.name, pair) is not pair:
            raise UserError(f"{pair.image} and {once[pair.name].image} would both be called {pair.name}; rename one")
    keys = [pair.key for pair in pairs]
    lonely = [sorted(mine[key] for key in mine.keys() - set(keys)) for mine in (by_image, by_mask)]
    return Matches(pairs, lonely[0], lonely[1])


def pair_keys(pairs: Iterable[Pair]) -> set[str]:
    """What the pairs' names have in common."""
    return {pair.key for pair in pairs}


def keyed(names: Iterable[str], pattern: str) -> dict[str, str]:
    """The files that fit a pattern, by what `*` stands for.

    raises   UserError if two stand for the same
    """
    fits = re.compile("(.*)".join(map(re.escape, unicodedata.normalize("NFC", pattern).split("*"))))
    found: dict[str, str] = {}
    for name in sorted(names):
        fit = fits.fullmatch(unicodedata.normalize("NFC", os.path.splitext(name)[0]))  # noqa: PTH122
        if fit and (key := "/".join(filter(None, fit.groups()))):
            if key in found:
                raise UserError(f"{found[key]} and {name} are both {pattern} with {key} for *; remove one")
            found[key] = name
    return found


def members(folder: Path, found: Iterable[str], pairs: Sequence[Pair], split: str, own: Folder) -> list[Pair]:
    """The pairs of one split, in the order of its list, or of their names.

    raises   UserError if the split is empty, or a list names what is not there
    """
    if own.fraction != "none":
        parts = divide([pair.key for pair in pairs], own.fraction, own.seed, own.group)
        if split not in parts:
            raise UserError(f"params.yaml: with data.folder.fraction there are the splits train and val, no {split!r}")
        return [pair for pair in pairs if pair.key in parts[split]]
    lists = [name for name in found if Path(name).name == f"{split}.txt"]
    if len(lists) > 1 and f"{split}.txt" not in lists:
        raise UserError(f"{folder} has several lists of {split!r}: {', '.join(lists)}; put one at its top")
    if lists:
        return _listed(folder / min(lists, key=lambda name: name.count("/")), pairs)
    chosen = [pair for pair in pairs if split in pair.key.split("/")[:-1]]
    if not chosen:
        raise UserError(
            f"{folder} has no {split}.txt and no pictures in folders {split!r}; data.folder.fraction: 0.2 draws a split"
        )
    return chosen


def _listed(listing: Path, pairs: Sequence[Pair]) -> list[Pair]:
    """What a list file names, a line each: the key, the image's path or its file name, with or without ending."""
    known: dict[str, set[Pair]] = defaultdict(set)
    for pair in pairs:
        plain = Path(pair.image)
        for alias in (pair.key, pair.image, plain.with_suffix("").as_posix(), plain.name, plain.stem):
            known[unicodedata.normalize("NFC", alias)].add(pair)
    chosen: dict[Pair, None] = {}
    for line in listing.read_text(encoding="utf-8-sig", errors="replace").split("\n"):
        words = unicodedata.normalize("NFC", line).split()
        fits = known.get(" ".join(words)) or known.get(words[0] if words else "")
        if words and (not fits or len(fits) > 1):
            what = f"names {len(fits)} images" if fits else "names no image that has a mask"
            raise UserError(f"{listing}: {line.strip()!r} {what}")
        chosen |= dict.fromkeys(fits or ())
    if not chosen:
        raise UserError(f"{listing} is empty; a split needs at least one image")
    return list(chosen)


def divide(keys: Sequence[str], fraction: float, seed: int, group: str) -> dict[str, set[str]]:
    """Train and val: groups in an order drawn from the seed go to val until its share is nearest to `fraction`.

    raises   UserError if there are not two groups
    """
    groups = defaultdict(list)
    for key in keys:
        groups[key.rpartition(group)[0] if group != "none" and group in key else key].append(key)
    if len(groups) < 2:
        raise UserError(f"a split needs two images or groups at least; with data.folder.group {group!r} there is one")
    drawn = sorted(groups, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    val = set(groups[drawn[0]])
    for name in drawn[1:-1]:
        if 2 * (fraction * len(keys) - len(val)) < len(groups[name]):
            break
        val |= set(groups[name])
    return {"train": set(keys) - val, "val": val}
