"""ADE20K's scene parsing benchmark, SceneParse150: the code that both codings of its masks share.

Splits: training (20 210 photographs) and validation (2 000), under their published names. There are no list files;
images are numbered. Some photographs are greyscale, some have 10 megapixels or more.
"""

from collections.abc import Mapping
from pathlib import Path

from fcn.datasets.sources import Sample, check_splits, list_samples
from fcn.io import extraction
from fcn.io.archive import Archive, https_or_http
from fcn.params import Data, split_names

ARCHIVE = Archive(
    "ADEChallengeData2016.zip",
    https_or_http("data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"),
    "ADE20K: images for non-commercial research and education",
    "7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",
    967_382_037,
)
FOLDER = "ADEChallengeData2016/"
SPLITS = {"training": ("ADE_train", 20_210), "validation": ("ADE_val", 2_000)}


def archives(data: Data) -> tuple[Archive, ...]:
    """The one archive, whatever the splits."""
    check_splits(data, SPLITS)
    return (ARCHIVE,)


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Extract the images and masks of the splits, unchanged."""
    with extraction.opened(archives[ARCHIVE.name]) as contents:
        for split in sorted(split_names(data.splits)):
            prefix, count = SPLITS[split]
            names = [f"{prefix}_{number:08d}" for number in range(1, count + 1)]
            pairs = [(f"images/{split}/{name}.jpg", f"annotations/{split}/{name}.png") for name in names]
            extraction.write(contents, {FOLDER + path: out / path for pair in pairs for path in pair})
            (out / f"{split}.txt").write_text("".join(f"{image} {mask}\n" for image, mask in pairs))


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of their numbers."""
    return list_samples(raw, split)
