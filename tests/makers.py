"""Files as others make them: archives, pictures, MATLAB's; and what a data set's reader takes out of its archives."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from PIL import Image

from fcn.data.labels import Labels
from fcn.data.scale import Wanted
from fcn.data.split import Role, Split
from fcn.data.tiles import Tiling
from fcn.datasets import packing
from fcn.datasets.sources import Sample
from fcn.io import download, extraction
from fcn.params import Params
from fcn.runtime.errors import UserError


def archive_of(path: Path, files: dict[str, bytes]) -> None:
    """An archive of the kind that its name says: .zip, .tar, .tar.gz or .tgz."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, content in files.items():
                zipped.writestr(name, content)
        return
    with tarfile.open(path, "w:gz" if path.suffix in (".tgz", ".gz") else "w") as tarred:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))


def encoded(picture: Image.Image | npt.NDArray[np.uint8], kind: str) -> bytes:
    """A picture as a file's bytes, PNG or JPEG."""
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind)
    return file.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file by its specification: what it claims, and whatever follows."""
    header = (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in (header, *chunks, (b"IEND", b"")):
        parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts)


def version5(variables: dict[str, Any], packed: bool = True) -> bytes:
    """A MATLAB file of version 5."""
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=packed)
    return file.getvalue()


def built(source: Any, experiment: Params, out: Path) -> dict[str, list[Sample]]:
    """The samples of both splits, after the archives were found in the mirror and verified."""
    out.mkdir()
    found = {archive.name: download.fetch(archive) for archive in source.archives(experiment.data)}
    source.build(experiment.data, found, out)
    return {split: source.samples(out, split) for split in (experiment.data.splits.train, experiment.data.splits.val)}


def packed_split(
    samples: list[Sample],
    labels: Labels,
    out: Path,
    role: Role = "val",
    size: Wanted = "native",
    native_masks: bool = False,
    tiling: Tiling | None = None,
) -> Split:
    """The samples, packed as a split into a folder."""
    out.mkdir(exist_ok=True)
    packing.pack(samples, labels, size, native_masks, role, out, tiling)
    packing.write_labels(labels, out)
    return Split(out, role)


def archive_refusal(path: Path, name: str = "a") -> str:
    """The one line with which reading a file of an archive is refused."""
    with pytest.raises(UserError) as caught, extraction.opened(path) as contents:
        contents.read(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)
