"""From a data set's own files to the packed split: checked, decoded and resized once."""

import csv
import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from fcn import machine, pictures
from fcn.data import COLUMNS, Role, UInt8
from fcn.errors import UserError
from fcn.labels import Labels
from fcn.sources import Sample
from fcn.tiles import Tiling, windows

SHOWN = 20  # findings listed at once
CHUNK = 8  # samples that a process decodes at once


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
    returns       name of each image by its content's digest
    raises        UserError naming every file that is missing, broken, of another size than its
                  partner, or holds a code that is no class
    """
    if reserved := {*COLUMNS, "void"} & set(labels.names):
        raise UserError(f"a class is called {reserved.pop()!r}, which is a column of the index; rename it")
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
        whole = _resized(samples, labels, size, native_masks)
        for packed in cut(samples, labels, size, native_masks, role, tiling) if tiling else whole:
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
    ahead: deque[Future[list[Packed | str]]] = deque()
    with ProcessPoolExecutor(machine.cores(), get_context("forkserver")) as pool:
        for start in range(0, len(samples), CHUNK):
            ahead.append(pool.submit(_resize_all, samples[start : start + CHUNK], labels, size, native_masks))
            if len(ahead) > 2 * machine.cores():
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


def _resize_all(samples: list[Sample], labels: Labels, size: int | str, native_masks: bool) -> list[Packed | str]:
    return [resize(sample, labels, size, native_masks) for sample in samples]


def resize(sample: Sample, labels: Labels, size: int | str, native_mask: bool) -> Packed | str:
    """One sample, as it is packed, or what is wrong with it."""
    try:
        image, mask = read(sample, labels)
    except UserError as error:
        return str(error)
    return _fit(sample.name, image, mask, _digest(image), size, native_mask)


def cut(
    samples: list[Sample], labels: Labels, size: int | str, native_masks: bool, role: Role, tiling: Tiling
) -> Iterator[Packed | str]:
    """The tiles of each sample, one decoded after the other, so that memory holds one raster.

    A tile's name says where it lies: NAME_yTOP_xLEFT in pixels; an image that fits into one keeps its own.
    """
    for sample in samples:
        try:
            image, mask = read(sample, labels)
        except UserError as error:
            yield str(error)
            continue
        content, (height, width) = _digest(image), mask.shape
        for window in windows(width, height, tiling):
            left, top, right, bottom = window.box
            part = mask[top:bottom, left:right]
            if role == "val":
                part = window.answered(part)
            whole = (right - left, bottom - top) == (width, height)
            name = sample.name if whole else f"{sample.name}_y{top:05d}_x{left:05d}"
            # A copy: a view would keep the whole raster while the next is decoded.
            yield _fit(name, image[top:bottom, left:right].copy(), part.copy(), content, size, native_masks)
        del image, mask, part


def read(sample: Sample, labels: Labels) -> tuple[UInt8, UInt8]:
    """Image (H, W, 3) and mask (H, W), decoded.

    raises   UserError if one of them is not right, or they differ in size
    """
    image = pictures.image(sample.image, sample.upright)
    mask = pictures.mask(sample.mask, labels, sample.upright)
    if mask.shape != image.shape[:2]:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (mask, image)]
        raise UserError(f"{sample.mask} is {sizes[0]}, its image {sample.image} is {sizes[1]}")
    return image, mask


def _fit(name: str, image: UInt8, mask: UInt8, content: str, size: int | str, native_mask: bool) -> Packed:
    """Image antialiased, mask by nearest pixel, so that no class is invented between two."""
    height, width = mask.shape
    target = target_size((width, height), size)
    if target != (width, height):
        image = np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BILINEAR))
        if not native_mask:
            mask = np.asarray(Image.fromarray(mask).resize(target, Image.Resampling.NEAREST))
    return Packed(name, image, mask, (height, width), content)


def _digest(image: UInt8) -> str:
    digest = hashlib.sha256(f"{image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def target_size(size: tuple[int, int], wanted: int | str) -> tuple[int, int]:
    """Width and height in pixels of an image of `size` after resizing as params.yaml says."""
    if wanted == "native":
        return size
    if isinstance(wanted, int):
        scale = wanted / min(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    width, height = map(int, wanted.split("x"))
    return width, height


def refuse_shared(train: dict[str, str], val: dict[str, str]) -> None:
    """raises UserError if an image, by its content, is in both splits: its score would mean nothing."""
    shared: Iterable[str] = (f"{train[c]} (train) is {val[c]} (val)" for c in train.keys() & val.keys())
    if found := sorted(shared):
        raise UserError(f"{len(found)} images are in both splits: {', '.join(found[:SHOWN])}")
