"""One file over HTTP, into a `.part` that any later try goes on with."""

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import requests
import urllib3
from tqdm import tqdm

from fcn.runtime import files
from fcn.runtime.errors import UserError

TIMEOUT = (10, 60)  # seconds to connect, and without a single byte
SLOWEST = 64 << 10  # bytes that must come in such a time, lest a server that trickles keeps us for ever
PIECE = 1 << 20
MOST = 16 << 30  # bytes; the largest file that we know has 3 GB
BEGINNING = 512  # bytes by which a file is known
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # states of a server that may pass


class TransferError(Exception):
    """It did not come, or not to its end, but may if one tries again after so many seconds."""

    def __init__(self, reason: str, seconds: float = 0) -> None:
        super().__init__(reason)
        self.seconds = seconds


def receive(url: str, part: Path, size: int | None, checked: bool) -> None:
    """Fetches a file as the server keeps it into `part`, from where that ends.

    size     its bytes, where known
    checked  whether its digest is known: only then may it be put together from pieces that nobody
             says are of the same file
    raises   TransferError, and what has come so far stays; UserError if this address will not give it
    """
    start, headers = _begun(part, url, checked)
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
            _refuse(answer, url)
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                if start == (_total(answer) or size):
                    return  # it was whole when it was left
                raise _anew(part, "no longer has what was begun")
            start = _agreed(answer, url, part, start, size)
            _save(answer, url, part, start)
    except requests.exceptions.ProxyError:
        raise UserError("the proxy cannot be reached") from None
    except requests.exceptions.SSLError:
        raise TransferError("no secure connection: its certificate was refused, or it broke off") from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise TransferError("no answer, or none any more") from None
    except urllib3.exceptions.HTTPError:  # while reading; before that requests has put it into its own words
        raise TransferError("broke off") from None
    except requests.ConnectionError as error:
        if "resolve" in str(error):  # asking again will not help
            raise UserError("no such host, or no network") from None
        raise TransferError("no connection") from None
    except requests.RequestException as error:
        raise UserError(str(error)) from None


def discard(part: Path) -> None:
    """Takes away what was begun, and what is known of it."""
    part.unlink(missing_ok=True)
    _origin(part).unlink(missing_ok=True)


def is_page(beginning: bytes) -> bool:
    """Whether a file begins as a web page does: an error, a login, a licence to be clicked away."""
    return beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head"))


def _origin(part: Path) -> Path:
    """The file beside `.part` that says where its bytes came from."""
    return part.with_name(f"{part.name}.json")


def _begun(part: Path, url: str, checked: bool) -> tuple[int, dict[str, str]]:
    """Where to go on, and the request's headers; from the beginning if the rest might be another file's."""
    headers = {"Accept-Encoding": "identity"}
    start = part.stat().st_size if part.exists() else 0
    known = _known(part)
    condition = known.get("etag") or known.get("modified")
    if known.get("url") == url and condition:
        headers["If-Range"] = condition
    elif not checked:
        return 0, headers
    return start, headers | ({"Range": f"bytes={start}-"} if start else {})


def _known(part: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(_origin(part).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def _facts(answer: requests.Response, url: str) -> dict[str, Any]:
    """What tells whether a later answer is of the same file. A weak ETag does not."""
    etag = answer.headers.get("ETag", "")
    modified = answer.headers.get("Last-Modified")
    return {"url": url, "etag": etag if etag.startswith('"') else None, "modified": modified, "total": _total(answer)}


def _total(answer: requests.Response) -> int | None:
    """Bytes of the whole file, as the server says."""
    if answer.status_code == requests.codes.ok:
        length = answer.headers.get("Content-Length", "")
    else:
        length = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(length) if length.isdecimal() else None


def _refuse(answer: requests.Response, url: str) -> None:
    """Whether the server, or one that it sent us to, gives the file at all."""
    if url.startswith("https:") and not answer.url.startswith("https:"):
        raise UserError("leads to an address without protection")
    if answer.status_code in AGAIN:
        after = answer.headers.get("Retry-After", "")
        raise TransferError(f"status {answer.status_code}", min(60, int(after)) if after.isdecimal() else 0)
    if answer.status_code not in (200, 206, 416):
        raise UserError(f"status {answer.status_code} {answer.reason or ''}".rstrip())
    if answer.status_code != 416 and answer.headers.get("Content-Type", "").startswith("text/html"):
        raise UserError("the answer is a web page, not the file")
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip"):  # gzip is taken off at the end, if it is not the file's own
        raise UserError(f"sends it packed as {encoding}")


def _agreed(answer: requests.Response, url: str, part: Path, start: int, size: int | None) -> int:
    """Where the answer's bytes belong: zero if it is the whole file, whatever was asked for."""
    total = _total(answer)
    if total is not None and total > MOST:
        raise UserError(f"it has {total} bytes, which no file of ours has")
    if total is not None and size is not None and total != size and "Content-Encoding" not in answer.headers:
        raise UserError(f"it has {total} bytes, {size} are published")
    if answer.status_code == requests.codes.ok:
        return 0
    known, now = _known(part), _facts(answer, url)
    if known.get("url") == url and any(known[key] and now[key] and known[key] != now[key] for key in now):
        raise _anew(part, "has another file by now")  # and the server has not heeded If-Range
    if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _anew(part, "sends other bytes than were asked for")
    return start


def _anew(part: Path, reason: str) -> TransferError:
    discard(part)
    return TransferError(f"{reason}; starting anew")


def _save(answer: requests.Response, url: str, part: Path, start: int) -> None:
    total, pieces, beginning = _total(answer), _pieces(answer), b""
    while len(beginning) < BEGINNING and (piece := next(pieces, b"")):
        beginning += piece
    if start == 0 and is_page(beginning):
        raise UserError("the answer is a web page, not the file")  # before it replaces what was begun
    with files.naming(part):
        there = part.stat().st_size if part.exists() else 0
        if total is not None and shutil.disk_usage(part.parent).free < total - there:
            raise OSError(errno.ENOSPC, f"No room for {total} bytes", str(part))
        with part.open("ab" if start else "wb") as file, _bar(part.stem, start, total) as bar:
            if not start:  # only now: these facts hold of none of the bytes that were there before
                files.write_text(_origin(part), json.dumps(_facts(answer, url)))
            for piece in chain([beginning], pieces):
                file.write(piece)
                bar.update(len(piece))
                if bar.n > MOST:
                    raise UserError("it does not end")
            file.flush()
            os.fsync(file.fileno())
    if total is not None and bar.n != total:
        raise TransferError(f"broke off at byte {bar.n} of {total}")


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    """What comes, as it comes, and undecoded: ranges and lengths count these bytes."""
    since, came = time.monotonic(), 0
    while piece := answer.raw.read1(PIECE, decode_content=False):
        yield piece
        came += len(piece)
        if time.monotonic() - since > TIMEOUT[1]:
            if came < SLOWEST:
                raise TransferError("hardly anything comes")
            since, came = time.monotonic(), 0


def _bar(name: str, start: int, total: int | None) -> "tqdm[Any]":
    """Rate and time left: on a terminal at once, in a log every half minute."""
    every = 0.2 if sys.stderr.isatty() else 30
    return tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, mininterval=every, file=sys.stderr)
