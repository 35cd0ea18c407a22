"""PASCAL-Context, VOC 2010's photographs with every pixel labelled: the code that both codings of its masks share.

Splits: train (4998) and val (5105) of VOC 2010. Of the 459 classes, the 59 most frequent are used.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fcn.data.labels import Labels
from fcn.datasets.label_maps import CONTEXT59_CODES, CONTEXT_CODES
from fcn.datasets.sources import Sample, _matlab, check_splits, image_names, list_samples
from fcn.io import extraction
from fcn.io.archive import Archive
from fcn.params import Data, split_names

VOC2010 = Archive(
    "VOCtrainval_03-May-2010.tar",
    (
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
    ),
    "PASCAL VOC 2010: images from Flickr, under Flickr's terms of use",
    md5=("da459979d0c395079b5c75ee67908abb",),
)
CONTEXT = Archive(
    "trainval.tar.gz",
    (
        "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
        "http://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
    ),
    "PASCAL-Context's labels: for research",
    md5=("df034edb2c12aa7d33b42b20bb1796e3",),
)
FOLDER = "VOCdevkit/VOC2010/"
SPLITS = ("train", "val")


def archives(data: Data) -> tuple[Archive, ...]:
    """VOC 2010 for photographs and lists, PASCAL-Context for labels; both splits need both."""
    check_splits(data, SPLITS)
    return (VOC2010, CONTEXT)


def build(data: Data, archives: Mapping[str, Path], out: Path, labels: Labels, other: int) -> None:
    """Extract images unchanged; masks are converted from MATLAB files of 459 classes to PNGs.

    labels  ends with the 59 classes
    other   class or VOID of all other pixels
    """
    splits = sorted(split_names(data.splits))
    with extraction.opened(archives[VOC2010.name]) as contents:
        names = {split: image_names(contents.read(f"{FOLDER}ImageSets/Main/{split}.txt")) for split in splits}
        all_names = {name for split in splits for name in names[split]}
        extraction.write(contents, {f"{FOLDER}JPEGImages/{name}.jpg": out / f"image/{name}.jpg" for name in all_names})
    table = np.full(CONTEXT_CODES + 1, other, np.uint8)
    first = len(labels.names) - len(CONTEXT59_CODES)
    table[list(CONTEXT59_CODES.values())] = np.arange(first, len(labels.names))
    with extraction.opened(archives[CONTEXT.name]) as contents:
        targets = {f"trainval/{name}.mat": out / f"mask/{name}.png" for name in all_names}
        extraction.write(contents, targets, _matlab.pictures("LabelMap", table, labels))
    for split in splits:
        lines = (f"image/{name}.jpg mask/{name}.png\n" for name in names[split])
        (out / f"{split}.txt").write_text("".join(lines))


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of its list."""
    return list_samples(raw, split)
