"""Pair the images and masks of a folder by file name and assign the pairs to splits."""

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

MAX_DEPTH = 32  # nested folders
MAX_ENTRIES = 500_000  # files and folders; the largest data sets have half as many
MAX_GAPS = 64  # runs of whitespace in a line of a split list that are tried as the end of the image name
CACHE_OBJECT = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")  # in DVC's cache, wherever the cache is


@dataclass(frozen=True)
class Pair:
    """An image and its mask, as paths relative to the folder; `key` is the common part of their names."""

    key: str
    image: str
    mask: str

    @property
    def name(self) -> str:
        """The key as a file name: slashes become underscores."""
        return self.key.replace("/", "_")


@dataclass(frozen=True)
class Matches:
    """The pairs of a folder, sorted by key, and the images and masks without a partner."""

    pairs: list[Pair]
    images: list[str]
    masks: list[str]


def files(folder: Path) -> list[str]:
    """All files below a folder, as sorted relative paths. Symbolic links are followed, hidden files are skipped.

    raises   UserError if the folder does not exist, is nested too deeply or has too many entries, if a link points
             outside it, or if a name cannot be written to a list file
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    base = os.path.realpath(folder)
    names, visited, entries = list[str](), set[tuple[int, int]](), 0
    pending = [("", 0)]
    while pending:
        prefix, depth = pending.pop()
        directory = f"{folder}/{prefix}"
        status = Path(directory).stat()
        if (status.st_dev, status.st_ino) in visited:  # a link to a parent folder
            continue
        visited.add((status.st_dev, status.st_ino))
        if depth > MAX_DEPTH:
            raise UserError(
                f"{folder} has folders nested more than {MAX_DEPTH} levels deep, such as {prefix!r}; "
                "inspect one of them"
            )
        with os.scandir(directory) as listed:
            for entry in sorted(listed, key=lambda entry: entry.name):
                entries += 1
                if entries > MAX_ENTRIES:
                    raise UserError(
                        f"{folder} has more than {MAX_ENTRIES} files and folders; inspect one of its folders"
                    )
                name, linked = prefix + entry.name, entry.is_symlink()
                if entry.name.startswith("."):
                    continue
                if linked:
                    _refuse_outside_link(folder, name, base)
                if Path(entry.path).is_dir() if linked else entry.is_dir():
                    if not entry.name.startswith("__MACOSX"):
                        pending.append((f"{name}/", depth + 1))
                elif linked or entry.is_file():
                    names.append(name)
    for name in names:
        # Control characters (tabs, line breaks) and surrogates (bytes that are not valid UTF-8).
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise UserError(f"{folder}: the name {name!r} has control characters or invalid UTF-8; rename it")
    return sorted(names)


def _refuse_outside_link(folder: Path, name: str, base: str) -> None:
    """raises UserError if a link points outside the folder: private files could be copied, and pushed

    Links to DVC's cache are allowed, because `dvc checkout` may create them.
    """
    target = os.path.realpath(f"{folder}/{name}")
    if target != base and not target.startswith(f"{base}/") and not CACHE_OBJECT.search(target):
        raise UserError(f"{folder}: the link {name!r} points outside the folder, to {target!r}; replace it with a copy")


def match(names: Iterable[str], images: str, masks: str) -> Matches:
    """Pair images and masks by the text that `*` matches. A file that matches both patterns goes to the longer one.

    raises   UserError if two files have the same key, or two pairs the same name
    """
    pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
    if len(images) > len(masks):
        by_image = keyed(pictures, images)
        by_mask = keyed(set(pictures) - set(by_image.values()), masks)
    else:
        by_mask = keyed(pictures, masks)
        by_image = keyed(set(pictures) - set(by_mask.values()), images)
    pairs = [Pair(key, by_image[key], by_mask[key]) for key in sorted(by_image.keys() & by_mask.keys())]
    by_name: dict[str, Pair] = {}
    for pair in pairs:
        if by_name.setdefault(pair.name, pair) is not pair:
            raise UserError(f"{pair.image} and {by_name[pair.name].image} would both be called {pair.name}; rename one")
    keys = [pair.key for pair in pairs]
    unmatched = [sorted(files[key] for key in files.keys() - set(keys)) for files in (by_image, by_mask)]
    return Matches(pairs, unmatched[0], unmatched[1])


def keyed(names: Iterable[str], pattern: str) -> dict[str, str]:
    """The files that match a pattern, by the text that `*` matches.

    raises   UserError if two files have the same key
    """
    literals = re.sub(r"\*+", "*", unicodedata.normalize("NFC", pattern)).split("*")
    by_key: dict[str, str] = {}
    for name in sorted(names):
        key = "/".join(filter(None, _stars(literals, unicodedata.normalize("NFC", os.path.splitext(name)[0]))))  # noqa: PTH122
        if key:
            if key in by_key:
                raise UserError(f"{by_key[key]} and {name} both match {pattern} with {key} for *; remove one")
            by_key[key] = name
    return by_key


def _stars(literals: Sequence[str], stem: str) -> list[str]:
    """The text that each star of a pattern matches, the first star greedily; an empty list if the stem does not match.

    Literals are searched from the right. A greedy regular expression gives the same result, but needs exponential
    time to reject a name for a pattern such as `*a*a*a…`.
    """
    if len(literals) < 2:
        return []
    first, *middle, last = literals
    end = len(stem) - len(last)
    if end < len(first) or not (stem.startswith(first) and stem.endswith(last)):
        return []
    matched = []
    for literal in reversed(middle):
        at = stem.rfind(literal, len(first), end)
        if at < 0:
            return []
        matched.append(stem[at + len(literal) : end])
        end = at
    return [stem[len(first) : end], *matched[::-1]]


def members(folder: Path, names: Iterable[str], pairs: Sequence[Pair], split: str, params: Folder) -> list[Pair]:
    """The pairs of one split, in the order of its list file, or sorted by key if there is none.

    raises   UserError if the split is empty, or its list names an image that is missing or has no mask
    """
    if params.fraction:
        parts = divide([pair.key for pair in pairs], params.fraction, params.seed, params.group)
        if params.test and params.fraction + params.test < 1:
            rest = divide(sorted(parts["train"]), params.test / (1 - params.fraction), params.seed, params.group)
            parts |= {"train": rest["train"], "test": rest["val"]}
        if split not in parts:
            raise UserError(
                f"params.yaml: data.splits names {split!r}; with data.folder.fraction, the splits are "
                f"{' and '.join(parts)}{'' if params.test else '; data.folder.test: 0.2 adds test'}"
            )
        return [pair for pair in pairs if pair.key in parts[split]]
    lists = [name for name in names if name.rpartition("/")[2] == f"{split}.txt"]
    if len(lists) > 1 and f"{split}.txt" not in lists:
        raise UserError(f"{folder} has several lists of {split!r}: {', '.join(lists)}; put one in its top folder")
    if lists:
        return _listed(folder / min(lists, key=lambda name: name.count("/")), pairs)
    chosen = [pair for pair in pairs if split in pair.key.split("/")[:-1]]
    if not chosen:
        raise UserError(
            f"{folder} has no {split}.txt and no pictures in folders {split!r}; data.folder.fraction: 0.2 draws a split"
        )
    return chosen


def _listed(listing: Path, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that a list file names, one per line: a key, an image path or an image file name, suffix optional.

    The mask may follow, separated by a tab or spaces.
    """
    by_alias: dict[str, set[Pair]] = defaultdict(set)
    for pair in pairs:
        path = Path(pair.image)
        for alias in (pair.key, pair.image, path.with_suffix("").as_posix(), path.name, path.stem):
            by_alias[unicodedata.normalize("NFC", alias)].add(pair)
    chosen: dict[Pair, None] = {}
    for raw in read_text(listing).split("\n"):
        line = unicodedata.normalize("NFC", raw.strip())
        candidates = by_alias.get(line) or _with_mask(line, by_alias)
        if line and len(candidates) != 1:
            reason = f"names {len(candidates)} images" if candidates else "names no image that has a mask"
            raise UserError(f"{listing}: {shortened(line)} {reason}")
        chosen |= dict.fromkeys(candidates)
    if not chosen:
        raise UserError(f"{listing} is empty; a split needs at least one image")
    return list(chosen)


def _with_mask(line: str, by_alias: Mapping[str, set[Pair]]) -> set[Pair]:
    """The pairs for a line that names an image and then its mask.

    The mask is compared too. Otherwise a line for the missing image `street 2` would match `street`.
    """
    return {
        pair
        for gap in islice(re.finditer(r"\s+", line), MAX_GAPS)
        for pair in by_alias.get(line[: gap.start()], ())
        if Path(line[gap.end() :]).stem == unicodedata.normalize("NFC", Path(pair.mask).stem)
    }


def divide(keys: Sequence[str], fraction: float, seed: int, group: str | None) -> dict[str, set[str]]:
    """Divide keys into train and val. Groups go to val in a seeded random order until its share is nearest `fraction`.

    raises   UserError if there are fewer than two groups
    """
    groups = defaultdict(list)
    for key in keys:
        groups[key.rpartition(group)[0] if group and group in key else key].append(key)
    if len(groups) < 2:
        raise UserError(f"a split needs at least two images or groups; with data.folder.group {group!r} there is one")
    shuffled = sorted(groups, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    val = set(groups[shuffled[0]])
    for name in shuffled[1:-1]:
        if 2 * (fraction * len(keys) - len(val)) < len(groups[name]):
            break
        val |= set(groups[name])
    return {"train": set(keys) - val, "val": val}
