"""Write samples as one packed split: a file of image pixels, a file of mask pixels and a CSV index."""

import csv
import itertools
import json
import math
import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic import TypeAdapter

from fcn.data.labels import VOID, Labels, UInt8
from fcn.data.scale import Scale, Wanted
from fcn.data.split import Role, columns, is_file_name
from fcn.data.tiles import Tiling
from fcn.datasets.resizing import Packed, resize, resize_in_tiles
from fcn.datasets.sources import Sample, name_error
from fcn.params import CHANNELS
from fcn.runtime import machine, workers
from fcn.runtime.errors import UserError, counted

MAX_LISTED = 20  # problems listed in one error
CHUNK = 16  # samples per task of a worker
PREFETCH = 2  # chunks in flight per core


@dataclass(frozen=True)
class Entry:
    """The index entry of a packed sample: shapes, and the pixel count of each code 0..255 in each mask."""

    name: str
    image: tuple[int, ...]
    mask: tuple[int, ...]
    original: tuple[int, int]
    content: str
    pixels: list[list[int]]


def pack(
    samples: list[Sample],
    labels: Labels,
    size: Wanted,
    native_masks: bool,
    role: Role,
    out: Path,
    tiling: Tiling | None = None,
) -> dict[str, str]:
    """Write one split into the folder `out`.

    size          native, the shorter side in pixels, or WIDTHxHEIGHT
    native_masks  keep masks at their original size, for evaluation
    tiling        how larger images are tiled first; except in train, overlaps are void in all tiles but one
    returns       image name by fingerprint
    raises        UserError that lists every file that is missing, broken, too large or duplicated, has another size
                  than its partner or too long a name, or holds a code that is not a class
    """
    if reason := labels.problem():
        raise UserError(f"the classes cannot be packed: {reason}; change data.folder.classes")
    problems = [
        f"{s.name!r} is not a valid file name; rename {str(s.image)!r}" for s in samples if not is_file_name(s.name)
    ]
    if problems:
        raise UserError(_listed(problems))
    names: Counter[str] = Counter()  # predictions are saved under these names
    problems += filter(None, (name_error(sample.name) for sample in samples))
    contents: dict[str, str] = {}
    geometric = samples[0].geometric
    channels: dict[int, str] = {}  # by number, the first image that has so many
    offset = mask_offset = 0
    with (
        open(out / f"{role}.images", "wb") as images,
        open(out / f"{role}.masks", "wb") as masks,
        open(out / f"{role}.csv", "w", newline="", encoding="utf-8") as index,
    ):
        writer = csv.writer(index, lineterminator="\n")
        writer.writerow(columns(labels, geometric))
        if tiling:
            packed = resize_in_tiles(samples, labels, size, native_masks, role, tiling)
            entries: Iterable[Entry | str] = (_written(sample, images, masks) for sample in packed)
        else:
            entries = _in_chunks(samples, labels, size, native_masks, out, images, masks)
        for entry in entries:
            if isinstance(entry, str):
                problems.append(entry)
                continue
            pixels = []
            for classes, counts in zip((labels, geometric), entry.pixels, strict=False):
                assert classes is not None
                pixels += [counts[VOID], *counts[: len(classes.names)]]
            sizes = [*entry.image[:2], offset, *entry.mask[:2], mask_offset, *entry.original]
            channels.setdefault(entry.image[2], entry.name)
            writer.writerow([entry.name, *sizes, *pixels])
            names[entry.name] += 1
            contents[entry.content] = entry.name
            offset += math.prod(entry.image)
            mask_offset += math.prod(entry.mask)
    if len(channels) > 1:
        counts_by_image = ", ".join(f"{name} has {number}" for number, name in channels.items())
        problems.append(f"images of {role} differ in their number of channels: {counts_by_image}")
    # Checked here, after tiling, because an image may already have the name of a tile.
    problems += [f"{name} is listed {count} times in {role}" for name, count in names.items() if count > 1]
    if problems:
        raise UserError(_listed(problems))
    return contents


def _listed(problems: list[str]) -> str:
    more = [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
    return "\n       ".join(problems[:MAX_LISTED] + more)


def histogram(mask: UInt8) -> list[int]:
    """Pixel count of each code 0..255. Masks have long runs, so counting runs is three times as fast as pixels."""
    codes = mask.reshape(-1)
    last = np.append(np.flatnonzero(codes[1:] != codes[:-1]), codes.size - 1)  # of each run
    counts: list[int] = np.bincount(codes[last], np.diff(last, prepend=-1), 256).astype(int).tolist()
    return counts


def write_labels(labels: Labels, out: Path, file: str = "classes.json") -> None:
    """classes.json or geometric.json: colour by class name, in the order of the class numbers."""
    classes = dict(zip(labels.names, labels.palette, strict=True))
    (out / file).write_text(json.dumps(classes, indent=1) + "\n")


def write_inputs(inputs: Sequence[str], out: Path) -> None:
    """inputs.json: the channels of each input, if there are others than RGB. Bands are as many as the files have.

    raises   UserError if the splits have different numbers of bands
    """
    if list(inputs) == ["rgb"]:
        return
    known = dict(CHANNELS)
    if "bands" in inputs:
        bands = set()
        for path in out.glob("*.images"):
            with open(path.with_suffix(".csv"), newline="", encoding="utf-8") as index:
                pixels = sum(int(row["height"]) * int(row["width"]) for row in csv.DictReader(index))
            channels = path.stat().st_size // pixels
            bands.add(channels - sum(known.get(name, 0) for name in inputs))
        if len(bands) > 1:
            raise UserError(f"the splits differ in their number of bands: {min(bands)} and {max(bands)}")
        known["bands"] = bands.pop()
    (out / "inputs.json").write_text(json.dumps({name: known[name] for name in inputs}) + "\n")


def write_scale(scale: Scale, out: Path) -> None:
    """scale.json: how the val split was resized, for the model files that are scored on it."""
    (out / "scale.json").write_text(json.dumps(TypeAdapter(Scale).dump_python(scale)) + "\n")


def _in_chunks(
    samples: list[Sample],
    labels: Labels,
    size: Wanted,
    native_masks: bool,
    out: Path,
    images: BinaryIO,
    masks: BinaryIO,
) -> Iterator[Entry | str]:
    """Resize samples on all cores and yield entries in order. Few chunks are in flight, so memory use is constant.

    Workers are processes: threads spend a quarter of their time waiting for the GIL. They return pixels in files,
    which costs half as much as a pipe. The files are reused, because allocating pages for new ones is slow.
    """
    import torch  # noqa: F401  once, before the workers are forked

    pending: deque[tuple[Path, Future[list[Entry | str]]]] = deque()

    def next_entries() -> list[Entry | str]:
        buffer, future = pending.popleft()
        entries = future.result()
        for packed, suffix in (images, ".images"), (masks, ".masks"):
            with buffer.with_suffix(suffix).open("rb") as file:
                shutil.copyfileobj(file, packed, 1 << 20)
        return entries

    max_pending = PREFETCH * machine.cores()
    with tempfile.TemporaryDirectory(dir=out) as folder, workers.pool() as pool:
        buffers = itertools.cycle(Path(folder, str(i)) for i in range(max_pending + 1))
        for i in range(0, len(samples), CHUNK):
            buffer = next(buffers)
            pending.append((buffer, pool.submit(_chunk, samples[i : i + CHUNK], labels, size, native_masks, buffer)))
            if len(pending) > max_pending:
                yield from next_entries()
        while pending:
            yield from next_entries()


def _chunk(samples: list[Sample], labels: Labels, size: Wanted, native_mask: bool, buffer: Path) -> list[Entry | str]:
    import torch

    torch.set_num_threads(1)  # each core runs one worker
    with _overwrite(buffer.with_suffix(".images")) as images, _overwrite(buffer.with_suffix(".masks")) as masks:
        entries = [_written(resize(sample, labels, size, native_mask), images, masks) for sample in samples]
        images.truncate()
        masks.truncate()
    return entries


def _overwrite(path: Path) -> BinaryIO:
    """Open a file for overwriting from its beginning, without truncating it; create it if it does not exist."""
    return open(path, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY | os.O_CREAT, 0o600))


def _written(packed: Packed | str, images: BinaryIO, masks: BinaryIO) -> Entry | str:
    if isinstance(packed, str):
        return packed
    images.write(np.ascontiguousarray(packed.image).data)
    masks.write(np.ascontiguousarray(packed.masks).data)
    pixels = [histogram(packed.masks[:, :, path]) for path in range(packed.masks.shape[2])]
    return Entry(packed.name, packed.image.shape, packed.masks.shape, packed.original, packed.content, pixels)


def refuse_shared(
    train: dict[str, str], val: dict[str, str], advice: str = "", roles: tuple[Role, Role] = ("train", "val")
) -> None:
    """raises UserError if an image, compared by content, is in both splits: its score would be meaningless"""
    one, other = roles
    shared = sorted(f"{train[c]} ({one}) is {val[c]} ({other})" for c in train.keys() & val.keys())
    if shared:
        more = f" and {len(shared) - MAX_LISTED} more" if len(shared) > MAX_LISTED else ""
        what = "training images would be scored" if one == "train" else "test would not be held out"
        raise UserError(
            f"{counted(len(shared), 'image is', 'images are')} in both splits, so {what}: "
            f"{', '.join(shared[:MAX_LISTED])}{more}; {advice or 'change data.splits in params.yaml, or the lists'}"
        )
