"""Synthetic street scenes drawn from a seed: the embedded data set.

It is hard in the ways that real data sets are: lighting and weather vary, near objects occlude far ones, and poles,
legs and signs are only a few pixels wide, too thin for predictions at stride 32. As in VOC, a contour one void pixel
wide runs along every border between two objects.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from fcn.data.labels import Labels
from fcn.datasets.hha import hha
from fcn.datasets.label_maps import SCENES, SCENES_GEOMETRIC, SCENES_WITH_DECOYS
from fcn.datasets.rendering import Twins, camera, render
from fcn.datasets.sources import Sample, check_splits, list_samples
from fcn.io.archive import Archive
from fcn.params import Data, Size, split_names
from fcn.runtime import workers
from fcn.runtime.errors import UserError

LABELS = SCENES
GEOMETRIC = SCENES_GEOMETRIC
INPUTS = ("rgb", "depth", "hha", "infrared")
HHA_WINDOWS = (1, 3)  # pixels; as large a part of 128 × 128 pixels as the source's of 560 × 425


def labels(data: Data) -> Labels:
    """The classes: twins add decoys."""
    return _labels(data.scenes.twins)


def archives(data: Data) -> tuple[Archive, ...]:
    """None: scenes are drawn."""
    return ()


def check(data: Data) -> None:
    """raises UserError if a split is none of train, val and test, or would be empty"""
    counts = _counts(data)
    check_splits(data, counts)
    for split in split_names(data.splits):
        if not counts[split]:
            raise UserError(f"params.yaml: data.scenes.{split} is 0; a split needs at least one image")


def _counts(data: Data) -> dict[str, int]:
    """Scenes by split; their seeds depend on this order."""
    return {"train": data.scenes.train, "val": data.scenes.val, "test": data.scenes.test}


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Draw the splits as PNG files; scene i of a split does not depend on the number of scenes.

    image/ and mask/ are always written, depth/, hha/, infrared/ and geometric/ if data.inputs and data.labels name
    them. Depth is in millimetres, 16 bits; hha/ is computed from it.
    """
    counts = _counts(data)
    chosen = {*data.inputs, *data.labels.split("+")}
    folders = ["image", "mask", *(name for name in ("depth", "hha", "infrared", "geometric") if name in chosen)]
    write = partial(_write, out, folders, data.scenes.size, data.scenes.twins)
    for folder in folders:
        (out / folder).mkdir(parents=True)
    check(data)
    for split in sorted(split_names(data.splits)):
        names = [f"{split}_{i:04d}" for i in range(counts[split])]
        seeds = [(data.scenes.seed, list(counts).index(split), i) for i in range(counts[split])]
        with workers.pool() as pool:
            list(pool.map(write, names, seeds, chunksize=16))
        (out / f"{split}.txt").write_text("".join(f"image/{n}.png mask/{n}.png\n" for n in names))


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of their numbers."""
    return list_samples(raw, split)


def _labels(twins: Twins) -> Labels:
    return SCENES_WITH_DECOYS if twins else SCENES


def _write(out: Path, folders: list[str], size: Size, twins: Twins, name: str, seed: tuple[int, ...]) -> None:
    scene = render(seed, *size, twins)
    millimetres = np.round(scene.depth * 1000).astype(np.uint16)
    pictures = {
        "image": lambda: Image.fromarray(scene.image),
        "mask": lambda: _labels(twins).picture(scene.mask),
        "geometric": lambda: GEOMETRIC.picture(scene.geometric),
        "depth": lambda: Image.fromarray(millimetres),
        "hha": lambda: Image.fromarray(hha(millimetres / 1000, camera(*size), HHA_WINDOWS)),
        "infrared": lambda: Image.fromarray(scene.infrared),
    }
    for folder in folders:
        pictures[folder]().save(out / folder / f"{name}.png")
