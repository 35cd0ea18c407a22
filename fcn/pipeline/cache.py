"""Read-only access to DVC's cache: cached files by md5, and the files of a cached folder."""

import functools
import json
import re
from pathlib import Path

from fcn.pipeline import dvc_lock
from fcn.runtime import commands, files
from fcn.runtime.errors import UserError


@functools.cache
def folder() -> Path:
    """The cache folder, from DVC's configuration."""
    try:
        return Path(commands.dvc("cache", "dir").strip())
    except UserError:
        return Path(".dvc/cache")


def find(md5: str) -> Path | None:
    """The cached file with this md5, or None if the cache does not have it."""
    if not dvc_lock.DIGEST.fullmatch(md5):
        return None  # empty, or a path that leads out of the cache
    path = folder() / "files" / "md5" / md5[:2] / md5[2:]
    return path if path.is_file() else None


def expand(path: str, md5: str) -> dict[str, str]:
    """The md5 of each file of an out, by path; for a folder, from its listing in the cache.

    Empty if the cache does not have the listing, or only a damaged one, which `fcn doctor` reports.
    """
    if not md5.endswith(".dir"):
        return {path: md5}
    listing = find(md5)
    try:
        entries = json.loads(listing.read_bytes()) if listing else []
        return {f"{path}/{entry['relpath']}": str(entry["md5"]) for entry in entries}
    except (ValueError, TypeError, KeyError):
        return {}


def missing_files(folder: Path, dvc_file: bytes) -> list[str]:
    """Files that a folder's .dvc file lists but that no longer exist.

    Also empty if the cache does not have the listing.
    """
    match = re.search(rb"\bmd5: ([0-9a-f]{32}\.dir)$", dvc_file, re.MULTILINE)
    listing = find(match[1].decode()) if match else None
    if listing is None:
        return []
    return [entry["relpath"] for entry in json.loads(listing.read_bytes()) if not (folder / entry["relpath"]).exists()]


@functools.cache
def sha256(md5: str) -> str | None:
    """sha256 of the cached file with this md5, or None if the cache does not have it."""
    path = find(md5)
    return files.sha256(path) if path else None
