"""What DVC has recorded: dvc.lock, a copy of it for when a kill cuts it off, and the states that it makes needless."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fcn.runtime import documents, files, machine
from fcn.runtime.errors import UserError

LOCK = Path("dvc.lock")
DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")  # DVC's md5 of a file or folder
MADE = "made.md5"  # of the model file that a rung wrote, beside its finished state


def protect() -> None:
    """What every stage does first: keeps a copy of dvc.lock, and removes the finished states that it makes needless.

    raises   UserError if dvc.lock is cut off: DVC took what is left for all, and would run the rest again
    """
    if said := repair():
        raise UserError(f"{said}; type the same command again")
    for state in unneeded_states():
        lock = files.acquire(files.lock_file(state.name))
        if lock is not None:
            with lock:
                shutil.rmtree(state, ignore_errors=True)


def repair() -> str:
    """Puts the copy of dvc.lock in its place if a kill has cut it off, and says so; else keeps a copy.

    DVC writes it in place, and accepts some of what a kill leaves of it.
    raises   UserError if it is cut off and there is no copy
    """
    if not LOCK.is_file() or Path.cwd().resolve() != machine.root() or files.is_held(Path(".dvc/tmp/lock")):
        return ""  # nothing ran yet; a copy of the checkout, which DVC makes anew; or DVC may be writing it
    content, copy = LOCK.read_bytes(), machine.root() / ".fcn" / "dvc.lock"
    if stages(content) is not None:
        if not copy.is_file() or copy.read_bytes() != content:
            with files.replacing(copy) as temporary:
                temporary.write_bytes(content)
        return ""
    if b"<<<<<<< " in content:
        raise UserError("dvc.lock has the conflicts of a merge; resolve them, or `git checkout --ours dvc.lock`")
    if not copy.is_file() or stages(copy.read_bytes()) is None:
        raise UserError("dvc.lock is cut off, as by a kill; `git checkout dvc.lock`, or delete it if git has none")
    with files.replacing(LOCK) as temporary:
        shutil.copyfile(copy, temporary)
    return "dvc.lock was cut off, as by a kill; the last whole one is back"


def stages(content: bytes) -> dict[str, Any] | None:
    """What a dvc.lock says of each stage; None if it is cut off.

    A cut behind a whole line of the last entry's outs can pass for an end: then DVC runs what stood there again.
    raises   UserError if it is whole and says what DVC does not write
    """
    try:
        document: Any = documents.load_yaml(documents.decode(content, str(LOCK)), str(LOCK))
        found = dict(document["stages"])
        whole = content.endswith(b"\n") and all("cmd" in stage for stage in found.values())
        for name, last in list(found.items())[-1:]:  # only the last can be cut off
            outs = last.get("outs") or []
            whole &= bool(set(outs[-1]) - {"path", "hash"}) if outs else _has_no_outs(name)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError):
        return None
    return checked(document, str(LOCK)) if whole else None


def _has_no_outs(name: str) -> bool:
    """Whether dvc.yaml knows a stage that makes nothing, as somebody's own may."""
    graph: Any = documents.load_yaml(documents.read(Path("dvc.yaml")), "dvc.yaml")
    return name in graph["stages"] and not {"outs", "metrics", "plots"} & set(graph["stages"][name])


def read() -> dict[str, Any]:
    """What this checkout's dvc.lock says of each stage; nothing if there is none, or it is cut off."""
    return (stages(LOCK.read_bytes()) if LOCK.is_file() else None) or {}


def checked(document: object, where: str) -> dict[str, Any]:
    """What a dvc.lock says of each stage: `cmd`, `deps` and `outs` as lists of `path` and `md5`, `params`.

    document   its content, parsed; it may come from anybody's commit
    raises     UserError if it has a digest or a path that DVC does not write: it would lead to another file
    """
    found = document.get("stages", {}) if isinstance(document, dict) else None
    try:
        if not isinstance(found, dict):
            raise UserError("there are no stages")
        return {name: _stage(stage) for name, stage in found.items()}
    except UserError as error:
        raise UserError(f"{where}: {error}; DVC does not write this: take the file from a commit you trust") from None


def _stage(stage: object) -> dict[str, Any]:
    if not isinstance(stage, dict):
        raise UserError("a stage is no mapping")
    cmd, params = stage.get("cmd"), stage.get("params", {})
    lines = cmd if isinstance(cmd, list) else [cmd]
    if not all(isinstance(line, str) for line in lines):
        raise UserError("a stage has no cmd")
    if not isinstance(params, dict) or not all(isinstance(values, dict) for values in params.values()):
        raise UserError("a stage's params are no mappings")
    found: dict[str, Any] = {"cmd": "\n".join(map(str, lines)), "params": params}
    for kind in ("deps", "outs"):
        entries = stage.get(kind) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(f"a stage's {kind} are no list of paths")
        known = [entry for entry in entries if "md5" in entry]  # others are of somebody's own stage
        found[kind] = [{"path": entry.get("path"), "md5": entry["md5"]} for entry in known]
        for entry in found[kind]:
            path, md5 = entry["path"], entry["md5"]
            if not isinstance(md5, str) or not DIGEST.fullmatch(md5):
                raise UserError(f"an md5 is {md5!r:.80}")
            if not isinstance(path, str) or not path.isprintable() or (kind == "outs" and not _is_inside(path)):
                raise UserError(f"a path is {path!r:.80}")
    return found


def _is_inside(path: str) -> bool:
    """Whether a path names something in the checkout."""
    parts = PurePosixPath(path)
    return bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts


def packed(lock: Mapping[str, Any]) -> str | None:
    """The digest of the packed splits, if a dvc.lock names them: of the one folder that resize made."""
    outs = lock["resize"]["outs"] if "resize" in lock else []
    return next((str(out["md5"]) for out in outs if out["md5"].endswith(".dir")), None)


def states() -> Path:
    """The folder of what rungs go on from, a folder each."""
    return machine.root() / ".fcn" / "states"


def unneeded_states() -> list[Path]:
    """The states of finished rungs whose model file dvc.lock names: DVC has it, and nobody will go on from them."""
    made = {path.parent: path.read_text(errors="replace") for path in sorted(states().glob(f"*/{MADE}"))}
    if not made or not LOCK.is_file():
        return []
    lock = stages(LOCK.read_bytes()) or {}
    known = {out.get("md5") for stage in lock.values() for out in stage.get("outs", [])}
    return [state for state, md5 in made.items() if md5 in known]
