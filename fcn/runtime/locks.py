"""Locks between processes. A lock is a file, locked until it is closed or its process ends; the file itself stays."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from fcn.runtime import files, machine
from fcn.runtime.errors import UserError


def named(name: str) -> Path:
    """Path of the lock of this name. It is in the main checkout, also for experiments that run in a copy."""
    return machine.root() / ".fcn" / "locks" / name


def acquire(path: Path) -> TextIO | None:
    """Locks a file until the returned file is closed; None if another process holds the lock.

    It writes nothing, so that cleaning up works on a full disk.
    """
    file = _open(path)
    if _try(file):
        return file
    file.close()
    return None


@contextmanager
def locked(path: Path, if_held: Callable[[str], None] = lambda process: None) -> Iterator[None]:
    """Holds a lock. Waits for another process that holds it, after calling `if_held` with the id of that process."""
    with _open(path) as file:
        if not _try(file):
            file.seek(0)
            if_held(file.read().strip())
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(OSError):  # disk full: the message of a process that waits then lacks the id
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())  # not buffered, which would fail again in `close`
        yield


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Locks `out` for writing. A stage whose DVC was killed may still be running and writing the same file or folder.

    raises   UserError if another process holds the lock
    """

    def refuse(process: str) -> None:
        raise UserError(f"process {process} is writing {out}; wait for it, or end it")

    with files.naming(out), locked(named(out.resolve().as_posix().strip("/").replace("/", "-")), refuse):
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds the lock; does not create the file."""
    if not path.is_file():
        return False
    with path.open("r") as file:
        return not _try(file, fcntl.LOCK_SH)


def _open(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+")


def _try(file: TextIO, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
