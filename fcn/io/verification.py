"""Verify a downloaded file: size, digest, file type."""

import gzip
import hashlib
import zipfile
from pathlib import Path

from fcn.io import transfer
from fcn.io.archive import Archive
from fcn.runtime import files

GZIP = b"\x1f\x8b"


def fault(path: Path, archive: Archive) -> str | None:
    """Why a file is not the archive; None if all checks pass."""
    with path.open("rb") as file:
        beginning = file.read(transfer.BEGINNING)
    tarred = beginning[257:262] == b"ustar"
    if transfer.is_page(beginning):
        return "it is a web page"
    # Some servers send a .tgz decompressed, which is accepted: its size differs, and its digest may be known too.
    if archive.size is not None and path.stat().st_size != archive.size and not (is_gzip(archive) and tarred):
        return f"it has {path.stat().st_size} bytes, {archive.size} are published"
    if archive.sha256:
        digest = files.sha256(path)
        return None if digest.startswith(archive.sha256) else f"its sha256 is {digest}, not {archive.sha256}"
    if archive.md5:
        digest = _digest(path, "md5")
        return None if digest in archive.md5 else f"its md5 is {digest}, not {' or '.join(archive.md5)}"
    if archive.sha1:
        digest = _digest(path, "sha1")
        return None if digest == archive.sha1 else f"its sha1 is {digest}, not {archive.sha1}"
    if is_gzip(archive) and not (tarred or beginning.startswith(GZIP)):
        return "it is not a gzip archive"
    if archive.name.endswith(".tar") and not tarred:
        return "it is not a tar archive"
    if archive.name.endswith(".zip") and not (beginning.startswith(b"PK") and _is_zip(path)):
        return "it is not a zip archive, or it is truncated"
    return None


def is_gzip(archive: Archive) -> bool:
    return archive.name.endswith((".tgz", ".gz"))


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def unpack(part: Path, archive: Archive, plain: Path) -> bool:
    """Write to `plain` the file without the gzip layer that a server added in transfer; False if there is none."""
    with part.open("rb") as file:
        if file.read(2) != GZIP:
            return False
    with gzip.open(part) as packed:
        if is_gzip(archive) and packed.peek(2)[:2] != GZIP:
            return False
        with files.naming(plain), plain.open("wb") as file:
            while (piece := packed.read(transfer.PIECE)) and file.tell() <= transfer.MAX_SIZE:
                file.write(piece)
    return True
