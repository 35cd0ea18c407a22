"""dvc.lock: reading and checking it, a backup in case a kill truncates it, and cleanup of finished checkpoints."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fcn.runtime import documents, files, locks, machine
from fcn.runtime.errors import UserError

LOCK = Path("dvc.lock")
DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")  # md5 of a file or folder, as DVC writes it
MODEL_MD5 = "made.md5"  # file beside a finished checkpoint: md5 of the model file that the rung wrote


def protect() -> None:
    """Called first by every stage: backs up dvc.lock and removes checkpoints that are no longer needed.

    raises   UserError if dvc.lock was truncated and is now restored: the running DVC has read the truncated file and
             would run stages again that are up to date
    """
    if message := repair():
        raise UserError(f"{message}; type the same command again")
    for state in unneeded_checkpoints():
        lock = locks.acquire(lock_of(state))
        if lock is not None:
            with lock:
                shutil.rmtree(state, ignore_errors=True)


def repair() -> str:
    """Restores dvc.lock from the backup if it is truncated, and otherwise updates the backup.

    DVC does not write dvc.lock atomically, and reads some truncated files without an error.

    returns  a message if dvc.lock was restored, else an empty string
    raises   UserError if it is truncated and there is no backup, or if it has merge conflicts
    """
    if not LOCK.is_file() or Path.cwd().resolve() != machine.root() or locks.is_held(Path(".dvc/tmp/lock")):
        return ""  # nothing ran yet; or a temporary copy of the checkout; or DVC may be writing it now
    content, copy = LOCK.read_bytes(), machine.root() / ".fcn" / "dvc.lock"
    if stages(content) is not None:
        if not copy.is_file() or copy.read_bytes() != content:
            with files.replacing(copy) as temporary:
                temporary.write_bytes(content)
        return ""
    if b"<<<<<<< " in content:
        raise UserError("dvc.lock has merge conflicts; resolve them, or run `git checkout --ours dvc.lock`")
    if not copy.is_file() or stages(copy.read_bytes()) is None:
        raise UserError("dvc.lock is truncated, as after a kill; `git checkout dvc.lock`, or delete it if git has none")
    with files.replacing(LOCK) as temporary:
        shutil.copyfile(copy, temporary)
    return "dvc.lock was truncated, as after a kill; it was restored from its backup"


def stages(content: bytes) -> dict[str, Any] | None:
    """Parses the content of a dvc.lock: the entry of each stage, or None if the file is truncated.

    A file truncated between the outs of the last stage cannot be told from a complete one; DVC then runs that stage
    again.

    raises   UserError if it is complete but has content that DVC does not write
    """
    try:
        document: Any = documents.load_yaml(documents.decode(content, str(LOCK)), str(LOCK))
        entries = dict(document["stages"])
        whole = content.endswith(b"\n") and all("cmd" in stage for stage in entries.values())
        for name, last in list(entries.items())[-1:]:  # only the last can be incomplete
            outs = last.get("outs") or []
            whole &= bool(set(outs[-1]) - {"path", "hash"}) if outs else _has_no_outs(name)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError):
        return None
    return checked(document, str(LOCK)) if whole else None


def _has_no_outs(name: str) -> bool:
    """Whether dvc.yaml has a stage of this name without outs, metrics and plots, as users may add."""
    graph: Any = documents.load_yaml(documents.read(Path("dvc.yaml")), "dvc.yaml")
    return name in graph["stages"] and not {"outs", "metrics", "plots"} & set(graph["stages"][name])


def read() -> dict[str, Any]:
    """The entry of each stage in this checkout's dvc.lock; empty if there is none, or it is truncated."""
    return (stages(LOCK.read_bytes()) if LOCK.is_file() else None) or {}


def checked(document: object, where: str) -> dict[str, Any]:
    """Validates a dvc.lock. Each stage has `cmd`, `params`, and `deps` and `outs` as lists of `path` and `md5`.

    document   the parsed content; untrusted, since it may come from any commit
    raises     UserError if it has a digest or path that DVC does not write, which could point to another file
    """
    entries = document.get("stages", {}) if isinstance(document, dict) else None
    try:
        if not isinstance(entries, dict):
            raise UserError("there are no stages")
        return {name: _stage(stage) for name, stage in entries.items()}
    except UserError as error:
        raise UserError(f"{where}: {error}; DVC does not write this: take the file from a commit you trust") from None


def _stage(stage: object) -> dict[str, Any]:
    if not isinstance(stage, dict):
        raise UserError("a stage is not a mapping")
    cmd, params = stage.get("cmd"), stage.get("params", {})
    lines = cmd if isinstance(cmd, list) else [cmd]
    if not all(isinstance(line, str) for line in lines):
        raise UserError("a stage has no cmd")
    if not isinstance(params, dict) or not all(isinstance(values, dict) for values in params.values()):
        raise UserError("a stage's params are not mappings")
    checked_stage: dict[str, Any] = {"cmd": "\n".join(map(str, lines)), "params": params}
    for kind in ("deps", "outs"):
        entries = stage.get(kind) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(f"a stage's {kind} are not a list of paths")
        hashed = [entry for entry in entries if "md5" in entry]  # entries without md5 belong to stages of users
        checked_stage[kind] = [{"path": entry.get("path"), "md5": entry["md5"]} for entry in hashed]
        for entry in checked_stage[kind]:
            path, md5 = entry["path"], entry["md5"]
            if not isinstance(md5, str) or not DIGEST.fullmatch(md5):
                raise UserError(f"an md5 is {md5!r:.80}")
            if not isinstance(path, str) or not path.isprintable() or (kind == "outs" and not _is_inside(path)):
                raise UserError(f"a path is {path!r:.80}")
    return checked_stage


def _is_inside(path: str) -> bool:
    """Whether a path is inside the checkout."""
    parts = PurePosixPath(path)
    return bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts


def packed(lock: Mapping[str, Any]) -> str | None:
    """md5 of the packed splits, the only folder among the outs of resize; None if dvc.lock does not have it."""
    outs = lock["resize"]["outs"] if "resize" in lock else []
    return next((str(out["md5"]) for out in outs if out["md5"].endswith(".dir")), None)


def states() -> Path:
    """The folder of checkpoints, with one subfolder per rung and fingerprint."""
    return machine.root() / ".fcn" / "states"


def lock_of(state: Path) -> Path:
    """The lock that `Checkpoint.exclusive` holds."""
    return locks.named(state.name)


def unneeded_checkpoints() -> list[Path]:
    """Checkpoint folders of finished rungs whose model file is recorded in dvc.lock: no longer needed."""
    made = {path.parent: path.read_text(errors="replace") for path in sorted(states().glob(f"*/{MODEL_MD5}"))}
    if not made or not LOCK.is_file():
        return []
    lock = stages(LOCK.read_bytes()) or {}
    known = {out.get("md5") for stage in lock.values() for out in stage.get("outs", [])}
    return [state for state, md5 in made.items() if md5 in known]
