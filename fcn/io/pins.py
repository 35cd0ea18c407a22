"""Digests of fetched files whose makers publish none: recorded at the first use, compared at every later one.

Each has a file of its own in git, in a folder which the stage that uses it depends on: data/pins/datasets for download,
data/pins/weights for backbone. So DVC runs that stage again when a digest is another. A stage writes it in the
folder in which it runs: an experiment in a copy commits its own.
"""

import re
from dataclasses import replace
from pathlib import Path

from fcn.io.archive import Archive
from fcn.runtime import files
from fcn.runtime.errors import UserError

FOLDER = Path("data/pins")


def path(archive: Archive) -> Path:
    """The file that records a digest: a line as sha256sum writes it, or only comments before the first use."""
    return FOLDER / archive.kind / f"{archive.stem}.sha256"


def read(archive: Archive) -> str | None:
    """The recorded sha256, if there is one.

    raises   UserError if the file holds anything else
    """
    where = path(archive)
    if not where.is_file():
        return None
    text = where.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return None
    found = re.fullmatch(rf"([0-9a-f]{{64}})  {re.escape(archive.stem)}", lines[0])
    if len(lines) > 1 or not found:
        raise UserError(f"{where} is not the one line `SHA256  {archive.stem}`; `git checkout {where}` brings it back")
    return found[1]


def pinned(archive: Archive) -> Archive:
    """The archive with its recorded digest, where none is published."""
    digest = None if archive.has_digest else read(archive)
    return replace(archive, sha256=digest, pin=path(archive)) if digest else archive


def record_unpublished(archive: Archive, file: Path) -> None:
    """Records the digest of a file that was read well, where its makers publish none."""
    if not archive.has_digest:
        check_or_record(archive, files.sha256(file), file)


def check_or_record(archive: Archive, digest: str, file: Path) -> None:
    """Records the digest of a file that is used, or compares it with the recorded one.

    raises   UserError if they differ
    """
    known, where = read(archive), path(archive)
    if known is None:
        files.write_text(where, f"{digest}  {archive.stem}\n")
        print(f"{file}: sha256 {digest} is recorded in {where}; commit it, later uses are compared with it", flush=True)
    elif known != digest:
        raise UserError(
            f"{file} is not the file that was used first: its sha256 is {digest}, not {known}; {advice(where)}"
        )


def advice(pin: Path) -> str:
    """What to do if a file differs from the one whose digest was recorded."""
    return f"replace it, or delete the line in {pin} to accept it"
