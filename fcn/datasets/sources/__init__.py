"""Readers of the published data sets: one module each, with the name that params.yaml uses for the data set.

A module whose name begins with an underscore is not a data set; it holds code that several of them share.
"""

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from fcn.data.labels import Labels
from fcn.io.archive import Archive
from fcn.params import Data, Input, split_names
from fcn.runtime.errors import UserError

IMAGES = ("image", "images")  # folders beside which those of other inputs are
BESIDE: tuple[Input, ...] = ("depth", "hha", "infrared")  # inputs with files of their own
MAX_NAME = 200  # bytes of an image name: 255 minus the suffixes that tiles, `fcn visualize` and temporary files add


@dataclass(frozen=True)
class Sample:
    """The files of an image and its raw mask.

    upright    whether to apply the EXIF orientation to both; no for published data sets, whose masks were drawn on
               the pixels as stored
    inputs     what is packed as channels; all but RGB and bands are files beside the image
    geometric  the classes of a second mask beside the image, or None
    """

    name: str
    image: Path
    mask: Path
    upright: bool = False
    inputs: tuple[Input, ...] = ("rgb",)
    geometric: Labels | None = None

    def beside(self, kind: str) -> Path:
        """The file of another input or of other labels: a PNG in the folder `kind` beside the folder of images.

        raises   UserError if the image is in no folder called image or images
        """
        parts = list(self.image.parts)
        for at in reversed(range(len(parts) - 1)):
            if parts[at] in IMAGES:
                return Path(*parts[:at], kind, *parts[at + 1 :]).with_suffix(".png")
        raise UserError(
            f"{self.image} is in no folder called {' or '.join(IMAGES)}, beside which a folder {kind} could be"
        )


def name_error(name: str) -> str:
    """Why a prediction cannot be saved under an image's name; empty if it can."""
    size = len(name.encode())
    if size <= MAX_NAME:
        return ""
    return f"the name {name[:40]}… has {size} bytes with its folders; use at most {MAX_NAME}: predictions are named so"


class Source(Protocol):
    """The interface of each module of this package.

    LABELS holds the classes; a module whose classes depend on params has `labels(data)` instead. SIZE is the height
    and width in pixels, if most images share them. INPUTS names what a net can take, if that is not RGB alone;
    GEOMETRIC holds the geometric classes, if images have such labels. `build` writes the files of further inputs and
    labels where `Sample.beside` expects them: depth as 16-bit greyscale in millimetres, 0 if unknown; HHA as RGB;
    infrared as 8-bit greyscale; geometric masks as masks.
    """

    LABELS: Labels

    def archives(self, data: Data) -> Sequence[Archive]:
        """The archives that the splits need.

        raises   UserError if the data set does not have them: `check_splits`
        """

    def build(self, data: Data, archives: Mapping[str, Path], out: Path) -> None:
        """Extract the files of the splits into the folder `out`; `archives` maps archive names to files."""

    def samples(self, raw: Path, split: str) -> list[Sample]:
        """The split's samples, in the order of its list; `raw` is the folder that `build` wrote."""


def get(dataset: str) -> Source:
    """The reader of a data set.

    raises   UserError, listing the known data sets, if there is none with this name
    """
    known = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))
    if dataset not in known:
        raise UserError(f"params.yaml: data.dataset is {dataset!r}; choose from {', '.join(known)}")
    return cast(Source, importlib.import_module(f"fcn.datasets.sources.{dataset}"))


def image_names(listing: bytes) -> list[str]:
    """The image names of a list file, with or without a trailing newline; a path is refused."""
    names = listing.decode("ascii", "replace").split()
    for name in names:
        if not name.replace("_", "").isalnum():
            raise UserError(f"{name!r} in a split list is not an image name; delete the archive and fetch it again")
    return names


def samples(data: Data, raw: Path, split: str) -> list[Sample]:
    """The samples of a split, with the inputs and labels that params.yaml asks for."""
    source = get(data.dataset)
    found = source.samples(raw, split)
    if data.labels == "geometric":
        found = [replace(sample, mask=sample.beside("geometric")) for sample in found]
    second = geometric(data)
    return [replace(sample, inputs=data.inputs, geometric=second) for sample in found]


def geometric(data: Data) -> Labels | None:
    """The geometric classes, if they are learned beside the semantic ones."""
    return cast(Labels, vars(get(data.dataset))["GEOMETRIC"]) if data.labels == "semantic+geometric" else None


def labels(data: Data) -> Labels:
    """The classes of a data set; for some, params.yaml declares them."""
    source = get(data.dataset)
    if data.labels == "geometric":
        return cast(Labels, vars(source)["GEOMETRIC"])
    from_params = getattr(source, "labels", None)
    return cast(Labels, from_params(data)) if from_params else source.LABELS


def check(data: Data) -> None:
    """Check the params of a data set before anything is fetched.

    raises   UserError if the data set, a split, an input or its geometric labels do not exist, or a user's folder is
             missing or invalid
    """
    source = get(data.dataset)
    available = getattr(source, "INPUTS", ("rgb",))
    for name in data.inputs:
        if name not in available:
            raise UserError(f"params.yaml: data.inputs has {name}, but {data.dataset} has {', '.join(available)} only")
    if "geometric" in data.labels and not hasattr(source, "GEOMETRIC"):
        raise UserError(f"params.yaml: {data.dataset} has no geometric labels; write data.labels: semantic")
    source.archives(data)  # checks the splits
    if data.splits.test in (data.splits.train, data.splits.val):
        raise UserError(f"params.yaml: data.splits.test is {data.splits.test!r}, which is not held out; write another")
    check_source = getattr(source, "check", None)
    if check_source:
        check_source(data)


def check_splits(data: Data, known: Collection[str]) -> None:
    """raises UserError if a split of params.yaml is not among those of the data set"""
    for split in split_names(data.splits):
        if split not in known:
            raise UserError(f"params.yaml: {data.dataset} has no split {split!r}; choose from {', '.join(known)}")


def list_samples(raw: Path, split: str, upright: bool = False) -> list[Sample]:
    """The samples of a list file `split`.txt: one per line, image and mask as paths relative to `raw`.

    Fields are separated by tabs if the line has any, else by spaces. An optional third field is the sample's name,
    which defaults to the stem of the image's file name.
    """
    listing = raw / f"{split}.txt"
    if not listing.is_file():
        raise UserError(f"{listing} is missing: there is no split {split!r}; run dvc repro download")
    lines = [line for line in listing.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not lines:
        raise UserError(f"{listing} is empty; split {split!r} needs at least one image")
    samples = []
    for line in lines:
        image, mask, *name = line.split("\t") if "\t" in line else line.split()
        samples.append(Sample(name[0] if name else Path(image).stem, raw / image, raw / mask, upright))
    return samples
