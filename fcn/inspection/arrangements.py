"""Folders of images and masks that patterns cannot describe: pairs that differ in their suffix, and PASCAL VOC's.

Their files are linked into images/ and masks/, which is inspected instead.
"""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcn.inspection import class_table, inspection, layout
from fcn.inspection.inspection import Inspection
from fcn.io import images
from fcn.io.images import SUFFIXES
from fcn.runtime.errors import UserError

LOSSY = (".jpg", ".jpeg")
SAMPLES = 3  # pairs decoded to tell images from masks
VOC_IMAGES, VOC_MASKS, VOC_LISTS = "JPEGImages/", "SegmentationClass/", "ImageSets/Segmentation/"


@dataclass(frozen=True)
class Arrangement:
    """Where files go: `places` are paths below images/ and masks/, or names of lists, by path in the folder."""

    places: Mapping[str, str]
    note: str


def find(folder: Path, names: Sequence[str]) -> Arrangement | None:
    """How the folder is to be arranged; None if patterns describe it."""
    return _voc(names) or _twins(folder, names)


def inspected(folder: Path, arrangement: Arrangement, target: Path) -> Inspection:
    """Link the files to `target` and inspect it."""
    for name, place in arrangement.places.items():
        link(folder / name, target / place)
    result = inspection.inspect(target, "images/*", "masks/*")
    result.source = str(folder)
    result.notes.insert(0, arrangement.note)
    return result


def link(source: Path, target: Path) -> None:
    """Link a file, or copy it if it is in another file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        target.write_bytes(source.read_bytes())


def _tables(names: Sequence[str]) -> dict[str, str]:
    """Class tables and lists of splits in the top folder stay where they are."""
    return {
        name: name
        for name in names
        if name.lower() in class_table.TABLES or (name.endswith(".txt") and name[:-4].lower() in layout.SPLITS)
    }


def _voc(names: Sequence[str]) -> Arrangement | None:
    """VOC has lists of other tasks under the names of those for segmentation, which alone are used."""
    top = next(
        (name[: -len(VOC_LISTS + "train.txt")] for name in names if name.endswith(f"{VOC_LISTS}train.txt")), None
    )
    if top is None:
        return None
    kinds = {
        kind: [name for name in names if name.startswith(top + kind)] for kind in (VOC_MASKS, VOC_IMAGES, VOC_LISTS)
    }
    stems = {_stem(name.removeprefix(top + VOC_MASKS)) for name in kinds[VOC_MASKS]}
    places = _tables(names)
    places |= {name: f"masks/{name.removeprefix(top + VOC_MASKS)}" for name in kinds[VOC_MASKS]}
    places |= {name: name.removeprefix(top + VOC_LISTS) for name in kinds[VOC_LISTS] if name.endswith(".txt")}
    for name in kinds[VOC_IMAGES]:
        if _stem(name.removeprefix(top + VOC_IMAGES)) in stems:
            places[name] = f"images/{name.removeprefix(top + VOC_IMAGES)}"
    without = len(kinds[VOC_IMAGES]) - sum(place.startswith("images/") for place in places.values())
    note = f"VOC's folders: images of {VOC_IMAGES}, masks of {VOC_MASKS}, splits of {VOC_LISTS}"
    return Arrangement(places, note + (f"; images without a mask, skipped: {without}" if without else ""))


def _twins(folder: Path, names: Sequence[str]) -> Arrangement | None:
    """Images and masks side by side that differ in their suffix alone, such as a.jpg and a.png.

    Both suffixes must be the same for all of them, and they must be at least half of the pictures. Images have at least
    twice as many colours as masks, which are not JPEG.
    """
    by_stem = defaultdict[str, list[str]](list)
    for name in names:
        if name.lower().endswith(SUFFIXES):
            by_stem[_stem(name)].append(name)
    pairs = [sorted(pair, key=_suffix) for pair in by_stem.values() if len(pair) == 2]
    suffixes = {(_suffix(first), _suffix(second)) for first, second in pairs}
    if len(suffixes) != 1 or 2 * 2 * len(pairs) < sum(map(len, by_stem.values())):
        return None
    image = _richer(folder, pairs[:SAMPLES])
    mask = next((suffix for suffix in suffixes.pop() if suffix != image), None)
    if image is None or mask is None or mask in LOSSY:
        return None
    places = _tables(names)
    for name in (name for pair in pairs for name in pair):
        places[name] = f"{'images' if _suffix(name) == image else 'masks'}/{name}"
    return Arrangement(places, f"images are *{image}, masks *{mask} of the same names")


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0]


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _richer(folder: Path, pairs: Sequence[Sequence[str]]) -> str | None:
    """The suffix of the files with at least twice as many colours; None if there is none."""
    colours = Counter[str]()
    for name in (name for pair in pairs for name in pair):
        try:
            colours[_suffix(name)] += len(np.unique(images.image(folder / name).reshape(-1, 3), axis=0))
        except UserError:  # reported later, with the other errors
            return None
    (more, most), (_, least) = colours.most_common(2)
    return more if most >= 2 * least else None
