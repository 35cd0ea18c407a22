"""SIFT Flow: outdoor photographs, 256×256 pixels, 33 semantic and three geometric classes.

Splits: trainval (2486) and test (200), those of the reference, without the two unlabelled images. No test mask has
cow, desert or moon: mean IU excludes them, in the paper and here.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fcn.data.labels import VOID
from fcn.datasets.label_maps import SIFTFLOW, SIFTFLOW_GEOMETRIC
from fcn.datasets.sources import Sample, _matlab, check_splits, list_samples
from fcn.io import extraction
from fcn.io.archive import Archive, https_or_http
from fcn.params import Data, split_names

LABELS = SIFTFLOW
GEOMETRIC = SIFTFLOW_GEOMETRIC
SIZE = (256, 256)
ARCHIVE = Archive(
    "SiftFlowDataset.zip",
    https_or_http("www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip"),
    "SIFT Flow, from LabelMe: for research",
)
LISTS = {
    split: Archive(
        f"siftflow_{split}.txt",
        (f"https://raw.githubusercontent.com/shelhamer/fcn.berkeleyvision.org/master/data/sift-flow/{split}.txt",),
        "FCN's lists of SIFT Flow's images",
        digest,
    )
    for split, digest in {
        "trainval": "4321de2b164556875661a66c64e6b5ebe1493a6e3dfa51d93700e3d17dbedfe7",
        "test": "d9d024d06b1ed2139b0e1bdbc78ede9897c3389cd588cd5c37268a931c1d36ae",
    }.items()
}
# Converters by folder. Void is 0; in geometric masks it is -1, and 0 is read as void too, as by the reference.
MASKS = {
    "SemanticLabels": _matlab.pictures("S", _matlab.from_one(len(LABELS.names)), LABELS),
    "GeoLabels": _matlab.pictures(
        "S", np.array([VOID, *_matlab.from_one(len(GEOMETRIC.names))], np.uint8), GEOMETRIC, lowest=-1
    ),
}
FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"


def archives(data: Data) -> tuple[Archive, ...]:
    """The data set and the lists of the splits."""
    check_splits(data, LISTS)
    return ARCHIVE, *dict.fromkeys(LISTS[split] for split in split_names(data.splits))


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Extract the images and masks of the splits; masks are converted from MATLAB to PNG.

    Of the two kinds of masks, only those that `data.labels` asks for are extracted.
    """
    kinds = {"semantic": ("SemanticLabels", "mask"), "geometric": ("GeoLabels", "geometric")}
    with extraction.opened(archives[ARCHIVE.name]) as contents:
        for split in sorted(split_names(data.splits)):
            names = archives[LISTS[split].name].read_text(encoding="ascii").splitlines()
            root = contents.root(f"Images/{FOLDER}/{names[0]}.jpg")  # some copies are zipped inside a folder
            targets = {f"{root}Images/{FOLDER}/{name}.jpg": out / f"image/{name}.jpg" for name in names}
            extraction.write(contents, targets)
            for labels in data.labels.split("+"):
                source, folder = kinds[labels]
                masks = {f"{root}{source}/{FOLDER}/{name}.mat": out / f"{folder}/{name}.png" for name in names}
                extraction.write(contents, masks, MASKS[source])
            (out / f"{split}.txt").write_text("".join(f"image/{name}.jpg mask/{name}.png\n" for name in names))


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of its list."""
    return list_samples(raw, split)
