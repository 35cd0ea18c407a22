"""Download one file over HTTP into a `.part` file, which later attempts resume."""

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

TIMEOUT = (10, 60)  # seconds to connect, and to wait for data
MIN_PROGRESS = 64 << 10  # bytes per TIMEOUT[1] seconds; a slower server is given up
PIECE = 1 << 20
MAX_SIZE = 16 << 30  # bytes; the largest known file has 3 GB
BEGINNING = 512  # bytes that suffice to detect a file's type
RETRIED = (408, 425, 429, 500, 502, 503, 504)  # temporary HTTP errors


class TransferError(Exception):
    """A download that failed or was cut off, and may succeed if retried after `seconds`."""

    def __init__(self, reason: str, seconds: float = 0) -> None:
        super().__init__(reason)
        self.seconds = seconds


def receive(url: str, part: Path, size: int | None, checked: bool) -> None:
    """Download a file to `part`, resuming after the bytes that are already there.

    size     size in bytes, if known
    checked  whether the digest is known: only then may `part` be resumed if the server gives neither ETag nor date
    raises   TransferError if a retry may help; the bytes received so far are kept. UserError if it cannot help
    """
    start, headers = _resume_request(part, url, checked)
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
            _refuse(response, url)
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if start == (_total(response) or size):
                    return  # the file is already complete
                raise _restart(part, "the server no longer has the bytes received so far")
            start = _start_offset(response, url, part, start, size)
            _save(response, url, part, start)
    except requests.exceptions.ProxyError:
        raise UserError("the proxy cannot be reached") from None
    except requests.exceptions.SSLError:
        raise TransferError("TLS failed: the certificate is not trusted, or the connection broke off") from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise TransferError("timed out") from None
    except urllib3.exceptions.HTTPError:  # raised while reading; earlier errors are wrapped by requests
        raise TransferError("broke off") from None
    except requests.ConnectionError as error:
        if "resolve" in str(error):  # a retry will not help
            raise UserError("no such host, or no network") from None
        raise TransferError("no connection") from None
    except requests.RequestException as error:
        raise UserError(str(error)) from None


def discard(part: Path) -> None:
    """Delete a partial download and its metadata."""
    part.unlink(missing_ok=True)
    _origin(part).unlink(missing_ok=True)


def is_page(beginning: bytes) -> bool:
    """Whether a file begins like an HTML page, such as an error, login or licence page."""
    return beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head"))


def _origin(part: Path) -> Path:
    """The file beside `.part` that records where its bytes came from."""
    return part.with_name(f"{part.name}.json")


def _resume_request(part: Path, url: str, checked: bool) -> tuple[int, dict[str, str]]:
    """The offset to resume from and the request headers; offset 0 if the rest might belong to another file."""
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


def _facts(response: requests.Response, url: str) -> dict[str, Any]:
    """What identifies the file in later responses: URL, ETag, date, size. A weak ETag does not identify it."""
    etag = response.headers.get("ETag", "")
    modified = response.headers.get("Last-Modified")
    return {"url": url, "etag": etag if etag.startswith('"') else None, "modified": modified, "total": _total(response)}


def _total(response: requests.Response) -> int | None:
    """Size of the whole file in bytes, according to the server."""
    if response.status_code == requests.codes.ok:
        length = response.headers.get("Content-Length", "")
    else:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(length) if length.isdecimal() else None


def _refuse(response: requests.Response, url: str) -> None:
    """raises TransferError or UserError if the response, after redirects, is not the file"""
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise UserError("redirects to an address without https")
    if response.status_code in RETRIED:
        after = response.headers.get("Retry-After", "")
        raise TransferError(f"status {response.status_code}", min(60, int(after)) if after.isdecimal() else 0)
    if response.status_code not in (200, 206, 416):
        raise UserError(f"status {response.status_code} {response.reason or ''}".rstrip())
    if response.status_code != 416 and response.headers.get("Content-Type", "").startswith("text/html"):
        raise UserError("the response is a web page, not the file")
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip"):  # gzip is removed at the end, unless the file itself is gzip
        raise UserError(f"sends it with Content-Encoding {encoding}, which is not supported")


def _start_offset(response: requests.Response, url: str, part: Path, start: int, size: int | None) -> int:
    """The offset of the response's first byte: `start`, or 0 if the server sends the whole file regardless."""
    total = _total(response)
    if total is not None and total > MAX_SIZE:
        raise UserError(f"it has {total} bytes, more than the limit of {MAX_SIZE}")
    if total is not None and size is not None and total != size and "Content-Encoding" not in response.headers:
        raise UserError(f"it has {total} bytes, {size} are published")
    if response.status_code == requests.codes.ok:
        return 0
    known, now = _known(part), _facts(response, url)
    if known.get("url") == url and any(known[key] and now[key] and known[key] != now[key] for key in now):
        raise _restart(part, "the file has changed on the server")  # and the server ignored If-Range
    if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _restart(part, "the server sends another range than requested")
    return start


def _restart(part: Path, reason: str) -> TransferError:
    discard(part)
    return TransferError(f"{reason}; starting over")


def _save(response: requests.Response, url: str, part: Path, start: int) -> None:
    total, pieces, beginning = _total(response), _pieces(response), b""
    while len(beginning) < BEGINNING and (piece := next(pieces, b"")):
        beginning += piece
    if start == 0 and is_page(beginning):
        raise UserError("the response is a web page, not the file")  # before it overwrites a partial download
    with files.naming(part):
        existing = part.stat().st_size if part.exists() else 0
        if total is not None and shutil.disk_usage(part.parent).free < total - existing:
            raise OSError(errno.ENOSPC, f"No room for {total} bytes", str(part))
        with part.open("ab" if start else "wb") as file, _bar(part.stem, start, total) as bar:
            if not start:  # only now that the old bytes are gone, which came from elsewhere
                files.write_text(_origin(part), json.dumps(_facts(response, url)))
            for piece in chain([beginning], pieces):
                file.write(piece)
                bar.update(len(piece))
                if bar.n > MAX_SIZE:
                    raise UserError(f"it has more than {MAX_SIZE} bytes")
            file.flush()
            os.fsync(file.fileno())
    if total is not None and bar.n != total:
        raise TransferError(f"broke off at byte {bar.n} of {total}")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The response body as received, not decoded: ranges and lengths refer to these bytes."""
    since, received = time.monotonic(), 0
    while piece := response.raw.read1(PIECE, decode_content=False):
        yield piece
        received += len(piece)
        if time.monotonic() - since > TIMEOUT[1]:
            if received < MIN_PROGRESS:
                raise TransferError(f"less than {MIN_PROGRESS >> 10} KiB in {TIMEOUT[1]} seconds")
            since, received = time.monotonic(), 0


def _bar(name: str, start: int, total: int | None) -> "tqdm[Any]":
    """A progress bar: updated continuously on a terminal, every half minute in a log."""
    interval = 0.2 if sys.stderr.isatty() else 30
    return tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, mininterval=interval, file=sys.stderr)
