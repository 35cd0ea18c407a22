"""`fcn diff`: the images and masks that differ between two states of a data set, by the digests of their files.

Only files whose digests differ are decoded.
"""

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcn import params
from fcn.comparison import runs
from fcn.data.labels import VOID, Labels, UInt8
from fcn.data.split import is_file_name
from fcn.datasets import pairing, sources
from fcn.datasets.sources import Sample, folder
from fcn.experiments.history import Snapshot
from fcn.io import images
from fcn.params import Data
from fcn.pipeline import cache
from fcn.runtime.errors import UserError, counted, printable

RAW = Path("data/raw")
LISTED = 3  # pairs of classes in a line
SHOWN = 40  # changes with pictures


@dataclass(frozen=True)
class State:
    """A data set at one time.

    label    for messages
    root     the folder that the samples' paths begin with; it need not contain them
    samples  by the image's path below `root`
    splits   names of the splits that a sample is in, by the same path
    md5      of each file, by its path below `root`
    cached   whether the files are in DVC's cache instead of in `root`
    """

    label: str
    root: Path
    labels: Labels
    samples: Mapping[str, Sample]
    splits: Mapping[str, list[str]]
    md5: Mapping[str, str]
    cached: bool

    def digest(self, path: Path) -> str:
        return self.md5[path.relative_to(self.root).as_posix()]

    def file(self, path: Path) -> Path:
        """The file to decode.

        raises   UserError if DVC's cache does not have it
        """
        if not self.cached:
            return path
        name = path.relative_to(self.root).as_posix()
        found = cache.find(self.md5[name])
        if found is None:
            raise _missing(f"{RAW}/{name}", self.label)
        return found

    def image(self, sample: Sample) -> UInt8:
        return images.image(self.file(sample.image), sample.upright)

    def mask(self, sample: Sample) -> UInt8:
        return images.mask(self.file(sample.mask), self.labels, sample.upright)


@dataclass(frozen=True)
class Change:
    """One sample that differs.

    kind    added, removed or edited
    what    the files that differ
    splits  that the sample is in, or was in if it is removed
    before, after   the decoded files of `what`, by `image` or `mask`; empty for a state without the sample, and beyond
                    the first SHOWN changes
    moved   pixels of an edited mask by their classes before and after; None if its size or the classes changed
    sizes   of an edited mask before and after, if they differ
    """

    kind: str
    name: str
    what: tuple[str, ...]
    splits: tuple[str, ...]
    before: Mapping[str, UInt8] = field(repr=False)
    after: Mapping[str, UInt8] = field(repr=False)
    moved: Mapping[tuple[int, int], int] | None = None
    sizes: str | None = None


@contextmanager
def state(name: str | None) -> Iterator[State]:
    """A state of the data set: of a commit or a DVC experiment, or of the working tree if the name is None.

    The working tree is `data/own/NAME` for a user's own images, and `data/raw` for other data sets.

    raises   UserError if the name is unknown, or files are missing
    """
    with tempfile.TemporaryDirectory() as temporary:
        yield _recorded(runs.snapshot(name), Path(temporary)) if name else _working_tree()


def _recorded(snapshot: Snapshot, temporary: Path) -> State:
    """The data set of a dvc.lock. Its lists are linked into the folder `temporary`."""
    data = params.check(snapshot.values, f"params.yaml of {snapshot.label}").data
    listing = cache.expand(str(RAW), snapshot.digest(str(RAW)) or "")
    md5 = {path.removeprefix(f"{RAW}/"): digest for path, digest in listing.items()}
    if not md5:
        raise _missing(str(RAW), snapshot.label)
    for split in params.split_names(data.splits):
        found = cache.find(md5.get(f"{split}.txt", "")) if is_file_name(split) else None
        if found is None:
            raise _missing(f"{RAW}/{split}.txt", snapshot.label)
        shutil.copyfile(found, temporary / f"{split}.txt")
    return _state(snapshot.label, temporary, data, md5, cached=True)


def _working_tree() -> State:
    data = params.load().data
    if data.dataset == "folder":
        root = folder.path(data.folder)
        names = pairing.files(root)
        pairs = pairing.match(names, data.folder.images, data.folder.masks).pairs
        samples = {
            split: [
                Sample(pair.name, root / pair.image, root / pair.mask, upright=True)
                for pair in pairing.members(root, names, pairs, split, data.folder)
            ]
            for split in params.split_names(data.splits)
        }
        return _of(f"{root}", root, data, samples, _Hashed(root), cached=False)
    if not RAW.is_dir():
        raise UserError(f"{RAW} is missing; run `dvc repro download` or `dvc checkout`")
    return _state(f"{RAW}", RAW, data, _Hashed(RAW), cached=False)


def _state(label: str, root: Path, data: Data, md5: Mapping[str, str], cached: bool) -> State:
    samples = {split: sources.samples(data, root, split) for split in params.split_names(data.splits)}
    return _of(label, root, data, samples, md5, cached)


def _of(
    label: str, root: Path, data: Data, samples: Mapping[str, list[Sample]], md5: Mapping[str, str], cached: bool
) -> State:
    found: dict[str, Sample] = {}
    splits: dict[str, list[str]] = {}
    for split, members in samples.items():
        for sample in members:
            path = sample.image.relative_to(root).as_posix()
            found[path] = sample
            splits.setdefault(path, []).append(split)
    try:
        result = State(label, root, sources.labels(data), found, splits, md5, cached)
        for sample in found.values():
            _ = result.digest(sample.image), result.digest(sample.mask)
    except KeyError as error:
        raise UserError(f"{label}: {RAW} does not contain {error.args[0]}, which its list names") from None
    return result


class _Hashed(dict[str, str]):
    """md5 of the files of a folder by path, computed when they are looked up."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __missing__(self, path: str) -> str:
        with open(self.root / path, "rb") as file:
            self[path] = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return self[path]


def diff(one: State, other: State) -> Iterator[Change]:
    """The samples that differ: removed, added and edited ones, each in order of path.

    Only the first SHOWN have pictures; of the others, only edited masks are decoded, to count the moved pixels.
    """
    count = 0
    for kind, present, absent in (("removed", one, other), ("added", other, one)):
        for path in sorted(present.samples.keys() - absent.samples.keys()):
            sample = present.samples[path]
            files = {"image": present.image(sample), "mask": present.mask(sample)} if count < SHOWN else {}
            pictures = (files, {}) if kind == "removed" else ({}, files)
            yield Change(kind, sample.name, ("image", "mask"), tuple(present.splits[path]), *pictures)
            count += 1
    for path in sorted(one.samples.keys() & other.samples.keys()):
        if change := _edited(one, other, path):
            yield change if count < SHOWN else replace(change, before={}, after={})
            count += 1


def _edited(one: State, other: State, path: str) -> Change | None:
    first, second = one.samples[path], other.samples[path]
    before: dict[str, UInt8] = {}
    after: dict[str, UInt8] = {}
    if one.digest(first.image) != other.digest(second.image):
        before["image"], after["image"] = one.image(first), other.image(second)
    if one.digest(first.mask) != other.digest(second.mask):
        before["mask"], after["mask"] = one.mask(first), other.mask(second)
    if not before:
        return None
    moved, sizes = None, None
    if "mask" in before and before["mask"].shape != after["mask"].shape:
        sizes = " → ".join("×".join(map(str, files["mask"].shape[::-1])) for files in (before, after))
    elif "mask" in before and one.labels.names == other.labels.names:
        moved = moves(before["mask"], after["mask"])
    return Change("edited", second.name, tuple(before), tuple(other.splits[path]), before, after, moved, sizes)


def moves(before: UInt8, after: UInt8) -> dict[tuple[int, int], int]:
    """The number of pixels by class before and after, for those whose class changed, in descending order."""
    pairs = before.astype(np.int64) * 256 + after
    counts: npt.NDArray[np.int64] = np.bincount(pairs[before != after], minlength=1)
    found = {divmod(int(pair), 256): int(counts[pair]) for pair in np.flatnonzero(counts)}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def moved_between_splits(one: State, other: State) -> list[str]:
    """Lines on samples that are in both states, but in other splits."""
    both = sorted(one.samples.keys() & other.samples.keys())
    return [
        f"{other.samples[path].name}: {' and '.join(one.splits[path])} → {' and '.join(other.splits[path])}"
        for path in both
        if one.splits[path] != other.splits[path]
    ]


def line(change: Change, labels: Labels) -> str:
    """A change in one line: what differs, and how many pixels changed their class."""
    text = f"{change.kind:8} {printable(change.name)} ({', '.join(change.splits)})"
    if change.kind != "edited":
        return text
    text += f": {' and '.join(change.what)}"
    if change.moved is not None:
        text += f", {counted(sum(change.moved.values()), 'pixel')} moved" + listed(change.moved, labels)
    elif "mask" in change.what:
        text += f", {change.sizes} pixels" if change.sizes else ", of other classes"
    return text


def listed(moved: Mapping[tuple[int, int], int], labels: Labels) -> str:
    """The largest moves between classes in words, and how many more there are."""
    names = {**dict(enumerate(labels.names)), VOID: "void"}
    texts = [f"{names[a]} → {names[b]} {count}" for (a, b), count in list(moved.items())[:LISTED]]
    texts += [f"{len(moved) - LISTED} more"] if len(moved) > LISTED else []
    return f" ({', '.join(texts)})" if texts else ""


def total(changes: list[Change]) -> dict[tuple[int, int], int]:
    """All moves between classes, in descending order."""
    sums: Counter[tuple[int, int]] = Counter()
    for change in changes:
        sums.update(change.moved or {})
    return dict(sums.most_common())


def _missing(path: str, label: str) -> UserError:
    return UserError(f"DVC's cache does not have {path} of {label}; `dvc fetch --all-commits {path}` may fetch it")
