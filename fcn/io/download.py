"""Archives, fetched once: from the mirror folder, else from their addresses, resumed where a kill left them."""

import fcntl
import gzip
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fcn.io import pins, transfer, verification
from fcn.io.archive import Archive
from fcn.io.transfer import TransferError
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError

PATIENCE = (1, 4, 16)  # seconds before all addresses are tried once more
GAIN = 1 << 20  # bytes that are worth going on at once after an answer broke off


def fetch_all(archives: Sequence[Archive]) -> dict[str, Path]:
    """The archives' files by name.

    raises   UserError with a line for each that cannot be had: who is offline brings them all at once
    """
    found, failures = {}, []
    for archive in archives:
        try:
            found[archive.name] = fetch(archive)
        except UserError as error:
            failures.append(str(error))
    if failures:
        raise UserError("\n       ".join(failures))
    return found


def fetch(archive: Archive) -> Path:
    """The archive's file, verified: the mirror's own, or one kept in `.fcn/downloads/`.

    raises   UserError that names the file and where to put it, if nobody has it; or both digests, if it is another
    """
    archive = pins.pinned(archive)
    path = find(archive)
    if path is None:
        folder = machine.root() / ".fcn" / "downloads"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / archive.name
        with _alone(folder / f"{archive.name}.lock"):
            if not path.is_file():  # nor has the one that we have waited for fetched it
                _from_anywhere(archive, path)
    elif reason := verification.fault(path, archive):
        if archive.pin:
            raise UserError(f"{path} is not the file that was used first: {reason}; {pins.advice(archive.pin)}")
        raise UserError(f"{path} is not the published {archive.name}: {reason}; delete or replace it")
    return path


def find(archive: Archive) -> Path | None:
    """Where the archive's file is already: in the folder that FCN_MIRROR names, or among earlier downloads.

    raises   UserError if FCN_MIRROR names no folder: who set it does not want gigabytes from elsewhere
    """
    folders = [machine.root() / ".fcn" / "downloads"]
    if mirror := os.environ.get("FCN_MIRROR"):
        folders.insert(0, machine.root() / Path(mirror).expanduser())
        if not folders[0].is_dir():
            raise UserError(f"FCN_MIRROR is {mirror!r}, but {folders[0]} is no folder; correct it, or unset it")
    return next((folder / archive.name for folder in folders if (folder / archive.name).is_file()), None)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other process fetches the same file."""
    with path.open("w") as lock:
        if not files.try_lock(lock):
            print(f"{path.stem}: another process is fetching it; waiting", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _from_anywhere(archive: Archive, place: Path) -> None:
    """Fetches from the archive's addresses in turn; then, with patience, again from those where it may help."""
    waiting, failures, asked = list(archive.urls), {}, 0.0
    for pause in (0, *PATIENCE):
        time.sleep(max(pause, asked))
        for url in tuple(waiting):
            if url.startswith("http:") and url not in failures and not archive.has_digest:
                print(
                    f"warning: {archive.name} comes from {url} without protection, and no digest of it is published; "
                    f"what comes is recorded in {pins.path(archive)}",
                    file=sys.stderr,
                    flush=True,
                )
            try:
                return _from(url, archive, place)
            except TransferError as error:
                failures[url], asked = str(error), error.seconds
            except UserError as error:
                failures[url] = str(error)
                waiting.remove(url)
            print(f"{archive.name}: {url}: {failures[url]}", file=sys.stderr, flush=True)
        if not waiting:
            break
    facts = [f"{archive.size} bytes"] * bool(archive.size) + [f"sha256 {archive.sha256}"] * bool(archive.sha256)
    facts += [f"recorded at its first use; delete the line in {archive.pin} to accept another"] * bool(archive.pin)
    raise UserError(
        f"{archive.name} could not be fetched ({'; '.join(f'{url}: {why}' for url, why in failures.items())}); "
        f"put the file into {place.parent}, or into a folder that FCN_MIRROR names"
        + (f"; it has {', '.join(facts)}" if facts else "")
    )


def _from(url: str, archive: Archive, place: Path) -> None:
    """Fetches from one address, again and again as long as each answer brings it further."""
    part, anew = place.with_name(f"{place.name}.part"), False
    size = None if verification.is_gzip(archive) else archive.size
    while True:
        begun = _size(part)
        try:
            transfer.receive(url, part, size, bool(archive.sha256 or archive.md5 or archive.sha1))
        except TransferError:
            if _size(part) - begun < GAIN:
                raise
            continue
        reason = _finish(part, archive, place)
        if reason is None:
            return
        if anew or not begun:
            raise UserError(reason)
        anew = True  # what was begun was another file; once more, from the beginning


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _finish(part: Path, archive: Archive, place: Path) -> str | None:
    """Puts what has come in its place if it is the archive; else takes it away and says why."""
    plain = place.with_name(f"{place.name}.plain")
    try:
        whole = plain if verification.unpack(part, archive, plain) else part
        if (reason := verification.fault(whole, archive)) is None:
            whole.replace(place)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        reason = "it is packed, and broken"
    finally:
        plain.unlink(missing_ok=True)
    transfer.discard(part)  # in its place by now, or wrong: that cannot be resumed into what is right
    return reason
