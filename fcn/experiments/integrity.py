"""Whether DVC's cache still holds what it was given: DVC looks at times and sizes, and believes the rest."""

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
    """What became of the objects that dvc.lock names.

    count, size   of those that were compared, in bytes
    left          that were not, for the time was up
    missing       that the cache does not have
    damaged       the objects that are not what their names say, and what of the workspace is made of each
    """

    count: int = 0
    size: int = 0
    left: int = 0
    missing: int = 0
    damaged: list[tuple[Path, str]] = field(default_factory=list)


def compare(seconds: float) -> Compared:
    """Compares each object with the md5 that is its name, model files first, for so many seconds."""
    found, end = Compared(), time.monotonic() + seconds
    for md5, path in _objects():
        place = cache.find(md5)
        if place is None:
            found.missing += 1
        elif time.monotonic() > end:
            found.left += 1
        else:
            found.count += 1
            found.size += place.stat().st_size
            if files.md5(place) != md5.removesuffix(".dir"):
                found.damaged.append((place, path))
    return found


def _objects() -> Iterator[tuple[str, str]]:
    """md5 and path of each file that dvc.lock names as an out, once, those of folders behind their list."""
    content = dvc_lock.LOCK.read_bytes() if dvc_lock.LOCK.is_file() else b""
    outs = [out for stage in (dvc_lock.stages(content) or {}).values() for out in stage.get("outs") or []]
    named = {str(out.get("md5")): str(out.get("path")) for out in outs if out.get("path", "").endswith(".safetensors")}
    named |= {str(out.get("md5")): str(out.get("path")) for out in outs}
    seen = set()
    for md5, path in named.items():
        for own, place in ((md5, path), *_members(md5, path)):
            if own not in seen and MD5.fullmatch(own):
                seen.add(own)
                yield own, place


def _members(md5: str, path: str) -> Iterator[tuple[str, str]]:
    """The files of a folder, by the list that the cache keeps of it; none if the list is damaged."""
    listing = cache.find(md5) if MD5.fullmatch(md5) and md5.endswith(".dir") else None
    if listing is None:
        return
    try:
        members = [(str(entry["md5"]), f"{path}/{entry['relpath']}") for entry in json.loads(listing.read_bytes())]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    yield from members
