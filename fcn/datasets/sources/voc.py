"""PASCAL VOC 2012 with SBD's additional masks: 21 classes, the data of the paper's main tables.

Splits: train (1464), val (1449) and trainval (2913) of VOC 2012; seg11valid (736), the images of VOC 2011's val that
are not in SBD's training split, all contained in VOC 2012; sbd_train (8498), SBD's training split.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fcn.data.labels import VOID
from fcn.datasets.label_maps import VOC
from fcn.datasets.sources import Sample, _matlab, check_splits, image_names, list_samples
from fcn.io import extraction
from fcn.io.archive import Archive
from fcn.params import Data, split_names

LABELS = VOC
VOC2012 = Archive(
    "VOCtrainval_11-May-2012.tar",
    (
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://dataset.bj.bcebos.com/voc/VOCtrainval_11-May-2012.tar",
        "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
    ),
    "PASCAL VOC 2012: images from Flickr, under Flickr's terms of use",
    "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    1_999_639_040,
)
SBD = Archive(
    "benchmark.tgz",
    (
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    ),
    "SBD, Semantic Boundaries Dataset: for research",
    size=1_419_539_633,
    # The second digest is that of the tar archive inside, which some servers send instead.
    md5=("82b4d87ceb2ed10f6038a1cba92111cb", "2b2af8a6cff7365684e002c08be823a6"),
)
SEG11VALID = Archive(
    "seg11valid.txt",
    ("https://raw.githubusercontent.com/shelhamer/fcn.berkeleyvision.org/master/data/pascal/seg11valid.txt",),
    "FCN's list of validation images",
    "4ca991bd72c251fd2485eaa9e29536502ea3800d1b1c17c151fd6a04bcfbc2cc",
)
NEEDS = {
    "train": (VOC2012,),
    "val": (VOC2012,),
    "trainval": (VOC2012,),
    "seg11valid": (VOC2012, SEG11VALID),
    "sbd_train": (SBD,),
}
# Class of each of SBD's codes, which are VOC's.
SBD_CLASSES = np.full(256, VOID, np.uint8)
SBD_CLASSES[: len(VOC.names)] = np.arange(len(VOC.names))
# Advice for an image that is in both splits.
SHARED = "SBD trains on images that VOC's val scores; data.splits.val: seg11valid leaves them out"
VOC_FOLDER = "VOCdevkit/VOC2012/"
SBD_FOLDER = "benchmark_RELEASE/dataset/"


def archives(data: Data) -> tuple[Archive, ...]:
    """The archives of the splits."""
    check_splits(data, NEEDS)
    return tuple(dict.fromkeys(archive for split in split_names(data.splits) for archive in NEEDS[split]))


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Extract images and masks by split; SBD's masks are converted from MATLAB to PNG."""
    for split in sorted(split_names(data.splits)):
        archive = archives[NEEDS[split][0].name]
        with extraction.opened(archive) as contents:
            if split == "sbd_train":
                ids = image_names(contents.read(f"{SBD_FOLDER}train.txt"))
                _build_sbd(contents, ids, out)
            elif split == "seg11valid":
                ids = image_names(archives[SEG11VALID.name].read_bytes())
                _build_voc(contents, ids, out)
            else:
                ids = image_names(contents.read(f"{VOC_FOLDER}ImageSets/Segmentation/{split}.txt"))
                _build_voc(contents, ids, out)
        folder = "sbd" if split == "sbd_train" else "voc"
        lines = (f"{folder}/image/{name}.jpg {folder}/mask/{name}.png\n" for name in ids)
        (out / f"{split}.txt").write_text("".join(lines))


def _build_voc(contents: extraction.Contents, ids: list[str], out: Path) -> None:
    targets = {f"{VOC_FOLDER}JPEGImages/{name}.jpg": out / f"voc/image/{name}.jpg" for name in ids}
    targets |= {f"{VOC_FOLDER}SegmentationClass/{name}.png": out / f"voc/mask/{name}.png" for name in ids}
    extraction.write(contents, targets)


def _build_sbd(contents: extraction.Contents, ids: list[str], out: Path) -> None:
    targets = {f"{SBD_FOLDER}img/{name}.jpg": out / f"sbd/image/{name}.jpg" for name in ids}
    targets |= {f"{SBD_FOLDER}cls/{name}.mat": out / f"sbd/mask/{name}.png" for name in ids}
    extraction.write(contents, targets, _matlab.pictures("GTcls.Segmentation", SBD_CLASSES, LABELS))


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of its list."""
    return list_samples(raw, split)
