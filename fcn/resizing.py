"""From a data set's own files to the packed split: checked, decoded and resized once."""

import csv
import hashlib
import json
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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
AHEAD = 2  # images under way for each core


@dataclass(frozen=True)
class Packed:
    """A checked and resized sample, or what is wrong with it.

    image, mask   as in the packed split
    original      height and width in pixels, before
    content       fingerprint of the decoded image, before
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
    returns       name of each image by its fingerprint
    raises        UserError naming every file that is missing, broken, too large, of another size than
                  its partner, listed twice, or holds a code that is no class
    """
    if reserved := {*COLUMNS, "void"} & set(labels.names):
        raise UserError(f"a class is called {reserved.pop()!r}, which is a column of the index; rename it")
    names = Counter(sample.name for sample in samples)  # predictions are kept under them
    findings = [f"{name} stands {count} times in the list of {role}" for name, count in names.items() if count > 1]
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
            images.write(np.ascontiguousarray(packed.image).data)
            masks.write(np.ascontiguousarray(packed.mask).data)
            counts = Image.fromarray(packed.mask).histogram()
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
    """Over all cores, in order, few at a time, so that memory stays flat.

    In threads: decoding, resizing and digests leave Python's lock to others, and a process of its own
    would have to import torch and to send all pixels back.
    """
    ahead: deque[Future[Packed | str]] = deque()
    with ThreadPoolExecutor(machine.cores()) as pool:
        try:
            for sample in samples:
                ahead.append(pool.submit(resize, sample, labels, size, native_masks))
                if len(ahead) > AHEAD * machine.cores():
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def resize(sample: Sample, labels: Labels, size: int | str, native_mask: bool) -> Packed | str:
    """One sample, as it is packed, or what is wrong with it."""
    try:
        image, mask = read(sample, labels)
    except UserError as error:
        return str(error)
    return _fit(sample.name, image, mask, fingerprint(image), size, native_mask)


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
        content, (height, width) = fingerprint(image), mask.shape
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
        image = shrink(image, *target)
        if not native_mask:
            mask = np.asarray(Image.fromarray(mask).resize(target, Image.Resampling.NEAREST))
    return Packed(name, image, mask, (height, width), content)


def fingerprint(pixels: UInt8) -> str:
    """What two pictures share only if they are the same: size, a sum over all pixels, a digest of every eighth row.

    A digest of all of them would take a sixth of the whole time; this guards against a mistake, not against malice.
    """
    rows = np.ascontiguousarray(pixels[::8])
    return f"{pixels.shape} {zlib.crc32(pixels.data):08x} {hashlib.sha256(rows.data).hexdigest()}"


def shrink(pixels: UInt8, width: int, height: int) -> UInt8:
    """An image resized, bilinear and antialiased: torch's, four times as fast as Pillow's.

    Sums of whole numbers, the same bits with any vector instructions; from Pillow's it differs by one
    grey level at most.

    pixels   (H, W, 3) uint8
    returns  (height, width, 3) uint8
    """
    import torch

    own = pixels if pixels.flags.writeable else pixels.copy()  # torch wants to be able to write
    planes = torch.from_numpy(own)[None].permute(0, 3, 1, 2)  # channels last, as torch knows them: twice as fast
    resized = torch.nn.functional.interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())


def target_size(size: tuple[int, int], wanted: int | str) -> tuple[int, int]:
    """Width and height in pixels of an image of `size` after resizing as params.yaml says."""
    if wanted == "native":
        return size
    if isinstance(wanted, int):
        scale = wanted / min(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    width, height = map(int, wanted.split("x"))
    return width, height


def refuse_shared(train: dict[str, str], val: dict[str, str], advice: str = "") -> None:
    """raises UserError if an image, by its content, is in both splits: its score would mean nothing."""
    shared = sorted(f"{train[c]} (train) is {val[c]} (val)" for c in train.keys() & val.keys())
    if shared:
        more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        raise UserError(
            f"{len(shared)} images are in both splits, which would be scored on what was learned by heart: "
            f"{', '.join(shared[:SHOWN])}{more}; {advice or 'change data.splits in params.yaml, or the lists'}"
        )
