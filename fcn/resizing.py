"""From a data set's own files to the packed split: checked, decoded and resized once."""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from fcn import machine
from fcn.data import COLUMNS, Role, UInt8
from fcn.errors import UserError
from fcn.labels import Labels
from fcn.sources import Sample

SHOWN = 20  # findings listed at once


@dataclass(frozen=True)
class Packed:
    """A checked and resized sample, or what is wrong with it.

    image, mask   as in the packed split
    original      height and width in pixels, before
    content       digest of the decoded image, before
    """

    name: str
    image: UInt8
    mask: UInt8
    original: tuple[int, int]
    content: str


def pack(
    samples: list[Sample], labels: Labels, size: int | str, native_masks: bool, role: Role, out: Path
) -> dict[str, str]:
    """Writes one split into the folder `out`.

    size          native, the shorter side in pixels, or WIDTHxHEIGHT
    native_masks  keep masks in their own size, to score against
    returns       name of each image by its content's digest
    raises        UserError naming every file that is missing, broken, of another size than its
                  partner, or holds a code that is no class
    """
    findings: list[str] = []
    contents: dict[str, str] = {}
    offset = mask_offset = 0
    with (
        open(out / f"{role}.images", "wb") as images,
        open(out / f"{role}.masks", "wb") as masks,
        open(out / f"{role}.csv", "w", newline="") as index,
    ):
        writer = csv.writer(index, lineterminator="\n")
        writer.writerow([*COLUMNS, *labels.names, "void"])
        for packed in _resized(samples, labels, size, native_masks):
            if isinstance(packed, str):
                findings.append(packed)
                continue
            images.write(packed.image.tobytes())
            masks.write(packed.mask.tobytes())
            counts = np.bincount(packed.mask.ravel(), minlength=256)
            pixels = [*counts[: len(labels.names)], counts[255]]
            sizes = [*packed.image.shape[:2], offset, *packed.mask.shape, mask_offset, *packed.original]
            writer.writerow([packed.name, *sizes, *pixels])
            contents[packed.content] = packed.name
            offset += packed.image.size
            mask_offset += packed.mask.size
    if findings:
        more = [f"and {len(findings) - SHOWN} more"] if len(findings) > SHOWN else []
        raise UserError("\n       ".join(findings[:SHOWN] + more))
    return contents


def write_labels(labels: Labels, out: Path) -> None:
    """classes.json: colour by class name, in the order of the class numbers."""
    classes = dict(zip(labels.names, labels.palette, strict=True))
    (out / "classes.json").write_text(json.dumps(classes, indent=1) + "\n")


def _resized(samples: list[Sample], labels: Labels, size: int | str, native_masks: bool) -> Iterator[Packed | str]:
    """Over all cores, in order, a bounded number at a time, so that memory stays flat."""
    with ProcessPoolExecutor(machine.cores(), get_context("forkserver")) as pool:
        for start in range(0, len(samples), 512):
            some = samples[start : start + 512]
            yield from pool.map(resize, some, repeat(labels), repeat(size), repeat(native_masks), chunksize=16)


def resize(sample: Sample, labels: Labels, size: int | str, native_mask: bool) -> Packed | str:
    """One sample: image antialiased, mask by nearest pixel, so that no class is invented between two."""
    try:
        image = _open(sample.image).convert("RGB")
        raw = _open(sample.mask)
        if raw.mode not in ("L", "P"):
            raise UserError(f"{sample.mask} is a picture of mode {raw.mode}; a mask holds one class number a pixel")
        if raw.size != image.size:
            sizes = [f"{w}x{h}" for w, h in (raw.size, image.size)]
            raise UserError(f"{sample.mask} is {sizes[0]}, its image {sample.image} is {sizes[1]}")
        mask = Image.fromarray(labels.decode(np.asarray(raw), str(sample.mask)))
    except UserError as error:
        return str(error)
    target = target_size(image.size, size)
    return Packed(
        sample.name,
        np.asarray(image if target == image.size else image.resize(target, Image.Resampling.BILINEAR)),
        np.asarray(mask if native_mask else mask.resize(target, Image.Resampling.NEAREST)),
        (image.height, image.width),
        hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest(),
    )


def target_size(size: tuple[int, int], wanted: int | str) -> tuple[int, int]:
    """Width and height in pixels of an image of `size` after resizing as params.yaml says."""
    if wanted == "native":
        return size
    if isinstance(wanted, int):
        scale = wanted / min(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    width, height = map(int, wanted.split("x"))
    return width, height


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no whole picture ({error})") from None
    return image


def refuse_shared(train: dict[str, str], val: dict[str, str]) -> None:
    """raises UserError if an image, by its content, is in both splits: its score would mean nothing."""
    shared: Iterable[str] = (f"{train[c]} (train) is {val[c]} (val)" for c in train.keys() & val.keys())
    if found := sorted(shared):
        raise UserError(f"{len(found)} images are in both splits: {', '.join(found[:SHOWN])}")
