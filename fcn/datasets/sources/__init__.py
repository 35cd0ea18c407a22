"""Data sets in their makers' formats: one module each, named as params.yaml names the data set.

A module whose name begins with _ is no data set but what several of them share.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from fcn.data.labels import Labels
from fcn.io.archive import Archive
from fcn.params import Data
from fcn.runtime.errors import UserError

LONGEST = 200  # bytes of an image's name: 255 less what tiles, `fcn visualize` and temporary files add to it


@dataclass(frozen=True)
class Sample:
    """An image and its raw mask, as files.

    upright   whether both are turned as their EXIF orientation says; the masks of published data sets
              were drawn on the pixels as they are stored
    """

    name: str
    image: Path
    mask: Path
    upright: bool = False


def name_error(name: str) -> str:
    """Why no prediction can be kept under an image's name; empty if one can."""
    size = len(name.encode())
    if size <= LONGEST:
        return ""
    return f"the name {name[:40]}… has {size} bytes with its folders; predictions are kept under it: at most {LONGEST}"


class Source(Protocol):
    """What each module of this package offers.

    LABELS are its classes, or `labels(data)` gives them where params say what they are; SIZE is height and width
    in pixels, where most images share them.
    """

    LABELS: Labels

    def archives(self, data: Data) -> Sequence[Archive]:
        """What the splits need to be fetched."""

    def build(self, data: Data, archives: Mapping[str, Path], out: Path) -> None:
        """Puts the files that the two splits name into the folder `out`, from archives by name."""

    def samples(self, raw: Path, split: str) -> list[Sample]:
        """The split's samples in the order of its list, from what `build` left."""


def get(dataset: str) -> Source:
    """The reader of a data set.

    raises   UserError, with what there is, if there is none of this name
    """
    known = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))
    if dataset not in known:
        raise UserError(f"params.yaml: data.dataset is {dataset!r}; there is {', '.join(known)}")
    return cast(Source, importlib.import_module(f"fcn.datasets.sources.{dataset}"))


def image_names(listing: bytes) -> list[str]:
    """The images' names of a list file, with or without a last newline; none of them may be a path."""
    names = listing.decode("ascii", "replace").split()
    for name in names:
        if not name.replace("_", "").isalnum():
            raise UserError(f"{name!r} in a split's list is no image's name")
    return names


def labels(data: Data) -> Labels:
    """The classes of a data set, which params.yaml may have a say in."""
    source = get(data.dataset)
    own = getattr(source, "labels", None)
    return cast(Labels, own(data)) if own else source.LABELS


def check(data: Data) -> None:
    """What can be known before anything is fetched.

    raises   UserError if there is no such data set or split, or a folder of one's own is not right
    """
    source = get(data.dataset)
    source.archives(data)
    own = getattr(source, "check", None)
    if own:
        own(data)


def list_samples(raw: Path, split: str, upright: bool = False) -> list[Sample]:
    """The samples of a list file `split`.txt: a line each, image and mask relative to `raw`.

    What stands on a line is parted by tabs if it has any, else by blanks; a third part is the name,
    else the image's file name is.
    """
    listing = raw / f"{split}.txt"
    if not listing.is_file():
        raise UserError(f"{listing} is missing; there is no split {split!r}")
    lines = [line for line in listing.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not lines:
        raise UserError(f"{listing} is empty; split {split!r} needs at least one image")
    samples = []
    for line in lines:
        image, mask, *name = line.split("\t") if "\t" in line else line.split()
        samples.append(Sample(name[0] if name else Path(image).stem, raw / image, raw / mask, upright))
    return samples
