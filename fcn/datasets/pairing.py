"""Images and masks of a folder, paired by their names, and dealt out to splits."""

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fcn.io.images import SUFFIXES
from fcn.params import Folder
from fcn.runtime.errors import UserError, shortened
from fcn.runtime.files import read_text

DEEPEST = 32  # folders inside one another
MOST = 500_000  # files and folders; the largest data sets have half as many
GAPS = 64  # blanks of a list's line at which a name may end
CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")  # an object of DVC's cache, wherever that is


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

    raises   UserError if there is no such folder, it is too deep or too full, a link leads out of it, or a name cannot
             stand in a list file
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder")
    base = os.path.realpath(folder)
    found, seen, entries = list[str](), set[tuple[int, int]](), 0
    todo = [("", 0)]
    while todo:
        inside, depth = todo.pop()
        here = f"{folder}/{inside}"
        facts = Path(here).stat()
        if (facts.st_dev, facts.st_ino) in seen:  # a link back up
            continue
        seen.add((facts.st_dev, facts.st_ino))
        if depth > DEEPEST:
            raise UserError(
                f"{folder} has folders in more than {DEEPEST} levels, such as {inside!r}; inspect one of them"
            )
        with os.scandir(here) as listed:
            for entry in sorted(listed, key=lambda entry: entry.name):
                entries += 1
                if entries > MOST:
                    raise UserError(f"{folder} has more than {MOST} files and folders; inspect one of its folders")
                name, linked = inside + entry.name, entry.is_symlink()
                if entry.name.startswith("."):
                    continue
                if linked:
                    _refuse_leaving(folder, name, base)
                if Path(entry.path).is_dir() if linked else entry.is_dir():
                    if not entry.name.startswith("__MACOSX"):
                        todo.append((f"{name}/", depth + 1))
                elif linked or entry.is_file():
                    found.append(name)
    for name in found:
        # Tabs and ends of lines, and bytes that are no UTF-8.
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise UserError(f"{folder}: the name {name!r} has characters that are no letters; rename it")
    return sorted(found)


def _refuse_leaving(folder: Path, name: str, base: str) -> None:
    """raises UserError if a link leads to what was not meant to be shown: its content would be copied, and pushed

    DVC itself may have put links to its cache here.
    """
    target = os.path.realpath(f"{folder}/{name}")
    if target != base and not target.startswith(f"{base}/") and not CACHED.search(target):
        raise UserError(
            f"{folder}: the link {name!r} leads out of the folder, to {target!r}; put a copy of that in its place"
        )


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
    literals = re.sub(r"\*+", "*", unicodedata.normalize("NFC", pattern)).split("*")
    found: dict[str, str] = {}
    for name in sorted(names):
        key = "/".join(filter(None, _stars(literals, unicodedata.normalize("NFC", os.path.splitext(name)[0]))))  # noqa: PTH122
        if key:
            if key in found:
                raise UserError(f"{found[key]} and {name} are both {pattern} with {key} for *; remove one")
            found[key] = name
    return found


def _stars(literals: Sequence[str], stem: str) -> list[str]:
    """What each star between a pattern's literals stands for, the first as long as it can be; none if it does not fit.

    From the right, each literal at its last place: a regular expression would give the same, but takes for ever to
    find that `*a*a*a…` does not fit.
    """
    if len(literals) < 2:
        return []
    first, *middle, last = literals
    end = len(stem) - len(last)
    if end < len(first) or not (stem.startswith(first) and stem.endswith(last)):
        return []
    found = []
    for literal in reversed(middle):
        at = stem.rfind(literal, len(first), end)
        if at < 0:
            return []
        found.append(stem[at + len(literal) : end])
        end = at
    return [stem[len(first) : end], *found[::-1]]


def members(folder: Path, found: Iterable[str], pairs: Sequence[Pair], split: str, own: Folder) -> list[Pair]:
    """The pairs of one split, in the order of its list, or of their names.

    raises   UserError if the split is empty, or a list names what is not there
    """
    if own.fraction != "none":
        parts = divide([pair.key for pair in pairs], own.fraction, own.seed, own.group)
        if split not in parts:
            raise UserError(f"params.yaml: with data.folder.fraction there are the splits train and val, no {split!r}")
        return [pair for pair in pairs if pair.key in parts[split]]
    lists = [name for name in found if name.rpartition("/")[2] == f"{split}.txt"]
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
    """What a list file names, a line each: the key, the image's path or its file name, with or without ending.

    The mask may follow, after a tab or blanks.
    """
    known: dict[str, set[Pair]] = defaultdict(set)
    for pair in pairs:
        plain = Path(pair.image)
        for alias in (pair.key, pair.image, plain.with_suffix("").as_posix(), plain.name, plain.stem):
            known[unicodedata.normalize("NFC", alias)].add(pair)
    chosen: dict[Pair, None] = {}
    for raw in read_text(listing).split("\n"):
        line = unicodedata.normalize("NFC", raw.strip())
        fits = known.get(line) or _with_mask(line, known)
        if line and len(fits) != 1:
            what = f"names {len(fits)} images" if fits else "names no image that has a mask"
            raise UserError(f"{listing}: {shortened(line)} {what}")
        chosen |= dict.fromkeys(fits)
    if not chosen:
        raise UserError(f"{listing} is empty; a split needs at least one image")
    return list(chosen)


def _with_mask(line: str, known: Mapping[str, set[Pair]]) -> set[Pair]:
    """The pairs whose image and mask a line names, one after the other.

    The image alone would not do: of `street 2`, which is missing, it would be `street`.
    """
    return {
        pair
        for gap in islice(re.finditer(r"\s+", line), GAPS)
        for pair in known.get(line[: gap.start()], ())
        if Path(line[gap.end() :]).stem == unicodedata.normalize("NFC", Path(pair.mask).stem)
    }


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
