"""Archives, fetched once: from the mirror folder, else from their addresses, resumed where a kill left them."""

import fcntl
import os
import time
from pathlib import Path

import requests
from tqdm import tqdm

from fcn import files, machine
from fcn.errors import UserError
from fcn.sources import Archive

TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
PATIENCE = (1, 4, 16)  # seconds before each new try at the same address
PIECE = 1 << 20


def fetch(archive: Archive) -> Path:
    """The archive's file, verified: the mirror's own, or one kept in `.fcn/downloads/`.

    raises   UserError that names the file and where to put it, if nobody has it
    """
    if path := find(archive):
        _verify(path, archive)
        return path
    folder = machine.root() / ".fcn" / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{archive.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits, and finds the file
        if (folder / archive.name).is_file():
            return folder / archive.name
        return _from_anywhere(archive, folder)


def find(archive: Archive) -> Path | None:
    """Where the archive's file is already: in the folder that FCN_MIRROR names, or among earlier downloads."""
    mirror = os.environ.get("FCN_MIRROR")
    folders = [machine.root() / mirror] if mirror else []
    places = [folder / archive.name for folder in (*folders, machine.root() / ".fcn" / "downloads")]
    return next((place for place in places if place.is_file()), None)


def _from_anywhere(archive: Archive, folder: Path) -> Path:
    """Fetches from the archive's addresses in turn, with patience where trying again may help."""
    failures = []
    for url in archive.urls:
        for pause in (0, *PATIENCE):
            time.sleep(pause)
            try:
                return _download(url, archive, folder)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                failures.append(f"{url}: no connection, or one that broke off")
                if "resolve" in str(error):  # no such host here: asking again will not help
                    break
            except requests.Timeout:
                failures.append(f"{url}: no answer")
            except (requests.RequestException, UserError) as error:
                failures.append(f"{url}: {error}")
                break
    raise UserError(
        f"{archive.name} could not be fetched ({'; '.join(dict.fromkeys(failures))}); "
        f"put the file into {folder}, or into a folder that FCN_MIRROR names"
    )


def _download(url: str, archive: Archive, folder: Path) -> Path:
    """Fetches into `.part`, from where that one ends, and renames it once it is whole and verified."""
    part = folder / f"{archive.name}.part"
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if answer.headers.get("Content-Range") == f"bytes */{start}":
                return _finish(part, archive, folder)  # it was whole when it was left
            part.unlink()
            raise requests.ConnectionError(f"{url} no longer has what was begun; starting anew")
        answer.raise_for_status()
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise UserError("the answer is a web page, not the file")
        if answer.status_code != requests.codes.partial_content:
            start = 0  # the server sends the whole file, whatever was asked for
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=archive.name, disable=None) as bar,
        ):
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                bar.update(len(piece))
    if total is not None and part.stat().st_size != total:
        raise requests.ConnectionError(f"{url} broke off at byte {part.stat().st_size} of {total}")
    return _finish(part, archive, folder)


def _finish(part: Path, archive: Archive, folder: Path) -> Path:
    try:
        _verify(part, archive)
    except UserError:
        part.unlink()  # a wrong file cannot be resumed into a right one
        raise
    return part.replace(folder / archive.name)


def _verify(path: Path, archive: Archive) -> None:
    if archive.sha256 and not files.sha256(path).startswith(archive.sha256):
        raise UserError(f"{path} is not the published {archive.name} (its sha256 differs); delete it")
    if archive.md5 and files.md5(path) != archive.md5:
        raise UserError(f"{path} is not the published {archive.name} (its md5 differs); delete it")
