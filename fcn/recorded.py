"""What DVC has recorded: dvc.lock, a copy of it for when a kill cuts it off, and the states that it makes needless."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from fcn import files, machine, pipeline
from fcn.errors import UserError

LOCK = Path("dvc.lock")
MADE = "made.md5"  # of the model file that a rung wrote, beside its finished state


def begin() -> None:
    """What every stage does first: keeps a copy of dvc.lock, and removes the finished states that it makes needless.

    raises   UserError if dvc.lock is cut off: DVC took what is left for all, and would run the rest again
    """
    if said := mend():
        raise UserError(f"{said}; type the same command again")
    for state in needless():
        lock = files.hold(files.lock_file(state.name))
        if lock is not None:
            with lock:
                shutil.rmtree(state, ignore_errors=True)


def mend() -> str:
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
    """
    try:
        found = dict(yaml.load(content, Loader=pipeline.LOADER)["stages"])
        whole = content.endswith(b"\n") and all("cmd" in stage for stage in found.values())
        for name, last in list(found.items())[-1:]:  # only the last can be cut off
            outs = last.get("outs") or []
            whole &= bool(set(outs[-1]) - {"path", "hash"}) if outs else _has_no_outs(name)
    except (yaml.YAMLError, TypeError, KeyError, ValueError, AttributeError):
        return None
    return found if whole else None


def _has_no_outs(name: str) -> bool:
    """Whether dvc.yaml knows a stage that makes nothing, as somebody's own may."""
    graph = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return name in graph and not {"outs", "metrics", "plots"} & set(graph[name])


def states() -> Path:
    """The folder of what rungs go on from, a folder each."""
    return machine.root() / ".fcn" / "states"


def needless() -> list[Path]:
    """The states of finished rungs whose model file dvc.lock names: DVC has it, and nobody will go on from them."""
    made = {path.parent: path.read_text(errors="replace") for path in sorted(states().glob(f"*/{MADE}"))}
    if not made or not LOCK.is_file():
        return []
    lock = stages(LOCK.read_bytes()) or {}
    known = {out.get("md5") for stage in lock.values() for out in stage.get("outs", [])}
    return [state for state, md5 in made.items() if md5 in known]
