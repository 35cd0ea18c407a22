"""Many samples into one packed split: two files of pixels and an index."""

import csv
import itertools
import json
import math
import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fcn.data.labels import VOID, Labels, UInt8
from fcn.data.scale import Scale
from fcn.data.split import Role, columns, is_file_name
from fcn.data.tiles import Tiling
from fcn.datasets.resizing import Packed, cut, resize
from fcn.datasets.sources import Sample, name_error
from fcn.runtime import machine, workers
from fcn.runtime.errors import UserError, counted

SHOWN = 20  # findings listed at once
PART = 16  # samples that a worker gets at once
AHEAD = 2  # parts under way for each core


@dataclass(frozen=True)
class Entry:
    """What the index says of a packed sample: shapes, and how many pixels each code 0..255 has in the mask."""

    name: str
    image: tuple[int, ...]
    mask: tuple[int, ...]
    original: tuple[int, int]
    content: str
    pixels: list[int]


def pack(
    samples: list[Sample],
    labels: Labels,
    size: int | str,
    native_masks: bool,
    role: Role,
    out: Path,
    tiling: Tiling | None = None,
) -> dict[str, str]:
    """Writes one split into the folder `out`.

    size          native, the shorter side in pixels, or WIDTHxHEIGHT
    native_masks  keep masks in their own size, to score against
    tiling        how larger images are cut first; in val the overlaps are void in all tiles but one
    returns       name of each image by its fingerprint
    raises        UserError naming every file that is missing, broken, too large, of another size than
                  its partner, listed twice, too long of name, or holds a code that is no class
    """
    if reason := labels.wrong():
        raise UserError(f"the classes cannot be packed: {reason}; change data.folder.classes")
    findings = [
        f"{s.name!r} is no name for a file; rename {str(s.image)!r}" for s in samples if not is_file_name(s.name)
    ]
    if findings:
        raise UserError(_listed(findings))
    names: Counter[str] = Counter()  # predictions are kept under them
    findings += filter(None, (name_error(sample.name) for sample in samples))
    contents: dict[str, str] = {}
    offset = mask_offset = 0
    with (
        open(out / f"{role}.images", "wb") as images,
        open(out / f"{role}.masks", "wb") as masks,
        open(out / f"{role}.csv", "w", newline="", encoding="utf-8") as index,
    ):
        writer = csv.writer(index, lineterminator="\n")
        writer.writerow(columns(labels))
        if tiling:
            packed = cut(samples, labels, size, native_masks, role, tiling)
            entries: Iterable[Entry | str] = (_written(sample, images, masks) for sample in packed)
        else:
            entries = _in_parts(samples, labels, size, native_masks, out, images, masks)
        for entry in entries:
            if isinstance(entry, str):
                findings.append(entry)
                continue
            pixels = [entry.pixels[VOID], *entry.pixels[: len(labels.names)]]
            sizes = [*entry.image[:2], offset, *entry.mask, mask_offset, *entry.original]
            writer.writerow([entry.name, *sizes, *pixels])
            names[entry.name] += 1
            contents[entry.content] = entry.name
            offset += math.prod(entry.image)
            mask_offset += math.prod(entry.mask)
    # A tile has a name of its own, which an image may have, too.
    findings += [f"{name} stands {count} times in the list of {role}" for name, count in names.items() if count > 1]
    if findings:
        raise UserError(_listed(findings))
    return contents


def _listed(findings: list[str]) -> str:
    more = [f"and {len(findings) - SHOWN} more"] if len(findings) > SHOWN else []
    return "\n       ".join(findings[:SHOWN] + more)


def histogram(mask: UInt8) -> list[int]:
    """How many pixels each code 0..255 has. Masks are flat: counting runs is three times as fast as counting pixels."""
    codes = mask.reshape(-1)
    last = np.append(np.flatnonzero(codes[1:] != codes[:-1]), codes.size - 1)  # of each run
    counts: list[int] = np.bincount(codes[last], np.diff(last, prepend=-1), 256).astype(int).tolist()
    return counts


def write_labels(labels: Labels, out: Path) -> None:
    """classes.json: colour by class name, in the order of the class numbers."""
    classes = dict(zip(labels.names, labels.palette, strict=True))
    (out / "classes.json").write_text(json.dumps(classes, indent=1) + "\n")


def write_scale(scale: Scale, out: Path) -> None:
    """scale.json: how the val split was resized, for the model files that are scored on it."""
    (out / "scale.json").write_text(json.dumps(asdict(scale)) + "\n")


def _in_parts(
    samples: list[Sample],
    labels: Labels,
    size: int | str,
    native_masks: bool,
    out: Path,
    images: BinaryIO,
    masks: BinaryIO,
) -> Iterator[Entry | str]:
    """Over all cores, in order, a few parts at a time, so that memory stays flat.

    In processes: threads spend a quarter of their time in waiting for Python's lock. Pixels come back in files,
    which costs half of what a pipe does, and in the same few again and again: a new file's memory is dear.
    """
    import torch  # noqa: F401  once, before the workers are forked

    ahead: deque[tuple[Path, Future[list[Entry | str]]]] = deque()

    def first() -> list[Entry | str]:
        part, entries = ahead.popleft()
        done = entries.result()
        for whole, kind in (images, ".images"), (masks, ".masks"):
            with part.with_suffix(kind).open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
        return done

    most = AHEAD * machine.cores()
    with tempfile.TemporaryDirectory(dir=out) as folder, workers.pool() as pool:
        parts = itertools.cycle(Path(folder, str(i)) for i in range(most + 1))
        for i in range(0, len(samples), PART):
            part = next(parts)
            ahead.append((part, pool.submit(_part, samples[i : i + PART], labels, size, native_masks, part)))
            if len(ahead) > most:
                yield from first()
        while ahead:
            yield from first()


def _part(samples: list[Sample], labels: Labels, size: int | str, native_mask: bool, part: Path) -> list[Entry | str]:
    import torch

    torch.set_num_threads(1)  # the other cores have workers of their own
    with _over(part.with_suffix(".images")) as images, _over(part.with_suffix(".masks")) as masks:
        entries = [_written(resize(sample, labels, size, native_mask), images, masks) for sample in samples]
        images.truncate()
        masks.truncate()
    return entries


def _over(path: Path) -> BinaryIO:
    """A file, new or there already, to be written over from its beginning; what it held stays until then."""
    return open(path, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY | os.O_CREAT, 0o600))


def _written(packed: Packed | str, images: BinaryIO, masks: BinaryIO) -> Entry | str:
    if isinstance(packed, str):
        return packed
    images.write(np.ascontiguousarray(packed.image).data)
    masks.write(np.ascontiguousarray(packed.mask).data)
    pixels = histogram(packed.mask)
    return Entry(packed.name, packed.image.shape, packed.mask.shape, packed.original, packed.content, pixels)


def refuse_shared(train: dict[str, str], val: dict[str, str], advice: str = "") -> None:
    """raises UserError if an image, by its content, is in both splits: its score would mean nothing."""
    shared = sorted(f"{train[c]} (train) is {val[c]} (val)" for c in train.keys() & val.keys())
    if shared:
        more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        raise UserError(
            f"{counted(len(shared), 'image is', 'images are')} in both splits, which would be scored on what was "
            "learned by heart: "
            f"{', '.join(shared[:SHOWN])}{more}; {advice or 'change data.splits in params.yaml, or the lists'}"
        )
