"""DVC's cache, read: where an out lies whose md5 dvc.lock names; what a folder had."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

from fcn.pipeline import dvc_lock
from fcn.runtime import files


@functools.cache
def folder() -> Path:
    """The cache's folder, as DVC's configuration has it."""
    words = [sys.executable, "-m", "dvc", "cache", "dir"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else Path(".dvc/cache")


def find(md5: str) -> Path | None:
    """The file of this digest, if the cache has it."""
    if not dvc_lock.DIGEST.fullmatch(md5):
        return None  # an empty one, or a path that leads out of the cache
    path = folder() / "files" / "md5" / md5[:2] / md5[2:]
    return path if path.is_file() else None


def expand(path: str, md5: str) -> dict[str, str]:
    """The md5 of each file of an out, by path: of a folder those that its listing names, of a file its own.

    Empty if the cache does not have a folder's listing, or a damaged one; `fcn doctor` finds those.
    """
    if not md5.endswith(".dir"):
        return {path: md5}
    listing = find(md5)
    try:
        entries = json.loads(listing.read_bytes()) if listing else []
        return {f"{path}/{entry['relpath']}": str(entry["md5"]) for entry in entries}
    except (ValueError, TypeError, KeyError):
        return {}


def missing_files(folder: Path) -> list[str]:
    """Files of a folder under DVC that it had when git last took its .dvc file, and has no more.

    Empty as well where git or the cache does not know.
    """
    words = ["git", "show", f":./{folder}.dvc"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    named = re.search(r"\bmd5: ([0-9a-f]{32}\.dir)$", done.stdout, re.MULTILINE)
    listing = find(named[1]) if done.returncode == 0 and named else None
    if listing is None:
        return []
    return [entry["relpath"] for entry in json.loads(listing.read_bytes()) if not (folder / entry["relpath"]).exists()]


@functools.cache
def sha256(md5: str) -> str | None:
    """The sha256 of a file that the cache has."""
    path = find(md5)
    return files.sha256(path) if path else None
