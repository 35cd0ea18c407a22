"""Compares the objects in DVC's cache with their md5. DVC itself only checks times and sizes."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fcn.pipeline import cache, dvc_lock
from fcn.runtime import files

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass
class Compared:
    """The result of comparing the objects that dvc.lock names.

    count     objects that were compared
    size      their bytes
    left      objects that were not compared, because the time was up
    missing   objects that the cache does not have
    damaged   objects that do not match their md5, each with its path in the workspace
    """

    count: int = 0
    size: int = 0
    left: int = 0
    missing: int = 0
    damaged: list[tuple[Path, str]] = field(default_factory=list)


def compare(seconds: float) -> Compared:
    """Compares each object with its md5, model files first, for at most `seconds`."""
    result, end = Compared(), time.monotonic() + seconds
    for md5, path in _objects():
        cached = cache.find(md5)
        if cached is None:
            result.missing += 1
        elif time.monotonic() > end:
            result.left += 1
        else:
            result.count += 1
            result.size += cached.stat().st_size
            if files.md5(cached) != md5.removesuffix(".dir"):
                result.damaged.append((cached, path))
    return result


def _objects() -> Iterator[tuple[str, str]]:
    """md5 and path of each out in dvc.lock, without duplicates; the list of a folder comes before its files."""
    content = dvc_lock.LOCK.read_bytes() if dvc_lock.LOCK.is_file() else b""
    outs = [out for stage in (dvc_lock.stages(content) or {}).values() for out in stage.get("outs") or []]
    named = {str(out.get("md5")): str(out.get("path")) for out in outs if out.get("path", "").endswith(".safetensors")}
    named |= {str(out.get("md5")): str(out.get("path")) for out in outs}
    seen = set()
    for md5, path in named.items():
        for digest, name in ((md5, path), *_members(md5, path)):
            if digest not in seen and MD5.fullmatch(digest):
                seen.add(digest)
                yield digest, name


def _members(md5: str, path: str) -> Iterator[tuple[str, str]]:
    """md5 and path of the files of a folder, from its list (.dir) in the cache; none if the list is damaged."""
    listing = cache.find(md5) if MD5.fullmatch(md5) and md5.endswith(".dir") else None
    if listing is None:
        return
    try:
        members = [(str(entry["md5"]), f"{path}/{entry['relpath']}") for entry in json.loads(listing.read_bytes())]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    yield from members
