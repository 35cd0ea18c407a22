"""Fetch archives once, from the mirror folder or else from their addresses; interrupted downloads are resumed."""

import gzip
import os
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from fcn.io import pins, transfer, verification
from fcn.io.archive import Archive
from fcn.io.transfer import TransferError
from fcn.runtime import locks, machine
from fcn.runtime.errors import UserError

RETRY_DELAYS = (1, 4, 16)  # seconds before each further round over the addresses
MIN_GAIN = 1 << 20  # bytes; an interrupted response that brought as many is resumed immediately


def fetch_all(archives: Sequence[Archive]) -> dict[str, Path]:
    """The archives' files by name.

    raises   UserError with one line for each failed archive, so that an offline user sees all of them at once
    """
    fetched, failures = {}, []
    for archive in archives:
        try:
            fetched[archive.name] = fetch(archive)
        except UserError as error:
            failures.append(str(error))
    if failures:
        raise UserError("\n       ".join(failures))
    return fetched


def fetch(archive: Archive) -> Path:
    """The archive's verified file, in the mirror folder or in `.fcn/downloads/`.

    raises   UserError that says where to put the file if no address has it, or that shows both digests if they differ
    """
    archive = pins.pinned(archive)
    path = find(archive)
    if path is None:
        path = machine.root() / ".fcn" / "downloads" / archive.name
        message = f"{path.name}: another process is fetching it; waiting"
        lock = path.with_name(f"{path.name}.lock")
        with locks.locked(lock, lambda process: print(message, file=sys.stderr, flush=True)):
            if not path.is_file():  # another process may have fetched it in the meantime
                _try_all(archive, path)
    elif reason := verification.fault(path, archive):
        if archive.pin:
            raise UserError(f"{path} differs from the file that was used first: {reason}; {pins.advice(archive.pin)}")
        raise UserError(f"{path} is not the published {archive.name}: {reason}; delete or replace it")
    return path


def find(archive: Archive) -> Path | None:
    """The archive's file in the mirror folder or among earlier downloads; None if it is in neither.

    raises   UserError as `mirror`
    """
    paths = [folder / archive.name for folder in (mirror(), machine.root() / ".fcn" / "downloads") if folder]
    return next((path for path in paths if path.is_file()), None)


def mirror() -> Path | None:
    """The folder that FCN_MIRROR names; None if it is not set.

    raises   UserError if it is not a folder: its user does not expect gigabytes to be downloaded instead
    """
    name = os.environ.get("FCN_MIRROR")
    if not name:
        return None
    folder = machine.root() / Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(f"FCN_MIRROR is {name!r}, but {folder} is not a folder; correct it, or unset it")
    return folder


def _try_all(archive: Archive, path: Path) -> None:
    """Fetch from the archive's addresses in turn; retry, with increasing delays, those that failed temporarily."""
    remaining, failures, retry_after = list(archive.urls), {}, 0.0
    for pause in (0, *RETRY_DELAYS):
        time.sleep(max(pause, retry_after))
        for url in tuple(remaining):
            if url.startswith("http:") and url not in failures and not archive.has_digest:
                print(
                    f"warning: {archive.name} is fetched from {url} without encryption, and has no published digest; "
                    f"its digest will be recorded in {pins.path(archive)}",
                    file=sys.stderr,
                    flush=True,
                )
            try:
                return _try_one(url, archive, path)
            except TransferError as error:
                failures[url], retry_after = str(error), error.seconds
            except UserError as error:
                failures[url] = str(error)
                remaining.remove(url)
            print(f"{archive.name}: {url}: {failures[url]}", file=sys.stderr, flush=True)
        if not remaining:
            break
    facts = [f"{archive.size} bytes"] * bool(archive.size) + [f"sha256 {archive.sha256}"] * bool(archive.sha256)
    facts += [f"recorded at first use; delete the line in {archive.pin} to accept another"] * bool(archive.pin)
    raise UserError(
        f"{archive.name} could not be fetched ({'; '.join(f'{url}: {why}' for url, why in failures.items())}); "
        f"put the file into {path.parent}, or into a folder that FCN_MIRROR names"
        + (f"; it has {', '.join(facts)}" if facts else "")
    )


def _try_one(url: str, archive: Archive, path: Path) -> None:
    """Fetch from one address; resume for as long as each response brings at least MIN_GAIN bytes."""
    part, restarted = path.with_name(f"{path.name}.part"), False
    size = None if verification.is_gzip(archive) else archive.size
    while True:
        initial = _size(part)
        try:
            transfer.receive(url, part, size, bool(archive.sha256 or archive.md5 or archive.sha1))
        except TransferError:
            if _size(part) - initial < MIN_GAIN:
                raise
            continue
        reason = _finish(part, archive, path)
        if reason is None:
            return
        if restarted or not initial:
            raise UserError(reason)
        restarted = True  # the resumed part belonged to another file; download all of it again, once


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _finish(part: Path, archive: Archive, path: Path) -> str | None:
    """Verify a complete download and move it to `path`; if it is invalid, delete it and return the reason."""
    plain = path.with_name(f"{path.name}.plain")
    try:
        complete = plain if verification.unpack(part, archive, plain) else part
        if (reason := verification.fault(complete, archive)) is None:
            complete.replace(path)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        reason = "it is a broken gzip file"
    finally:
        plain.unlink(missing_ok=True)
    transfer.discard(part)  # moved by now, or invalid, and then resuming it cannot help
    return reason
