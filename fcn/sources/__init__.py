"""Data sets in their makers' formats: one module each, named as params.yaml names the data set.

A module whose name begins with _ is no data set but what several of them share.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from fcn.errors import UserError
from fcn.labels import Labels
from fcn.params import Data


@dataclass(frozen=True)
class Archive:
    """A file to fetch: under this name in the mirror folder, else from these addresses in turn.

    sha256   its digest, or as much of it as its makers publish; None where its bytes vary
    size     in bytes, where known
    md5      the digest that its makers' users know, where nobody published its sha256
    licence  what its makers allow, in a line
    """

    name: str
    urls: tuple[str, ...]
    licence: str
    sha256: str | None = None
    size: int | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Sample:
    """An image and its raw mask, as files."""

    name: str
    image: Path
    mask: Path


class Source(Protocol):
    """What each module of this package offers; SIZE too, height and width in pixels, where most images share it."""

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
    return cast(Source, importlib.import_module(f"fcn.sources.{dataset}"))


def image_names(listing: bytes) -> list[str]:
    """The images' names of a list file, with or without a last newline; none of them may be a path."""
    names = listing.decode("ascii", "replace").split()
    for name in names:
        if not name.replace("_", "").isalnum():
            raise UserError(f"{name!r} in a split's list is no image's name")
    return names


def list_samples(raw: Path, split: str) -> list[Sample]:
    """The samples of a list file `split`.txt: a line each, image and mask relative to `raw`."""
    listing = raw / f"{split}.txt"
    if not listing.is_file():
        raise UserError(f"{listing} is missing; there is no split {split!r}")
    pairs = [line.split() for line in listing.read_text().splitlines() if line.strip()]
    if not pairs:
        raise UserError(f"{listing} is empty; split {split!r} needs at least one image")
    return [Sample(Path(image).stem, raw / image, raw / mask) for image, mask in pairs]
