"""Pinned digests of files published without one: recorded at first use, compared at every later use.

Each digest has its own file in git, in a folder that is a dependency of the stage that uses it: data/pins/datasets for
download, data/pins/weights for backbone. DVC therefore reruns that stage when a digest changes. A stage writes the file
in its working directory, so an experiment in a temporary copy commits its own.
"""

import re
from dataclasses import replace
from pathlib import Path

from fcn.io.archive import Archive
from fcn.runtime import files
from fcn.runtime.errors import UserError

FOLDER = Path("data/pins")


def path(archive: Archive) -> Path:
    """The file that records a digest: one line in sha256sum's format, or only comments before the first use."""
    return FOLDER / archive.kind / f"{archive.stem}.sha256"


def read(archive: Archive) -> str | None:
    """The recorded sha256, or None.

    raises   UserError if the file holds anything else
    """
    pin = path(archive)
    if not pin.is_file():
        return None
    text = pin.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return None
    match = re.fullmatch(rf"([0-9a-f]{{64}})  {re.escape(archive.stem)}", lines[0])
    if len(lines) > 1 or not match:
        raise UserError(f"{pin} is not a single line `SHA256  {archive.stem}`; `git checkout {pin}` restores it")
    return match[1]


def pinned(archive: Archive) -> Archive:
    """The archive with its recorded digest, if none is published."""
    digest = None if archive.has_digest else read(archive)
    return replace(archive, sha256=digest, pin=path(archive)) if digest else archive


def record_unpublished(archive: Archive, file: Path) -> None:
    """Record the digest of a file that was read without error, if none is published."""
    if not archive.has_digest:
        check_or_record(archive, files.sha256(file), file)


def check_or_record(archive: Archive, digest: str, file: Path) -> None:
    """Record the digest of a file in use, or compare it with the recorded one.

    raises   UserError if they differ
    """
    if check(archive, digest, file):
        return
    pin = path(archive)
    files.write_text(pin, f"{digest}  {archive.stem}\n")
    print(f"{file}: recorded sha256 {digest} in {pin}; commit it, later uses are compared with it", flush=True)


def check(archive: Archive, digest: str, file: Path) -> bool:
    """Compare the digest of a file with the recorded one.

    returns  whether there is a recorded one
    raises   UserError if they differ
    """
    known = read(archive)
    if known not in (None, digest):
        raise UserError(
            f"{file} differs from the file that was used first: its sha256 is {digest}, not {known}; "
            f"{advice(path(archive))}"
        )
    return known is not None


def advice(pin: Path) -> str:
    """What to do if a file differs from the one whose digest was recorded."""
    return f"replace it, or delete the line in {pin} to accept it"
