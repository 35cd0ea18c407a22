"""Files that are whole or absent: written under a temporary name, synced, renamed; by one process at a time."""

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from fcn.runtime import machine
from fcn.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 255 - len("..1234567890.tmp")  # bytes of a name, to which a temporary one adds


TEXT = 16 << 20  # bytes of a list or a table of classes; a list of 100,000 pairs with their paths has 10 MB


def read_regular(path: Path, largest: int) -> bytes:
    """The content of a file that someone else may have made.

    largest  bytes that are not too many
    raises   UserError if it is missing, no regular file (a pipe or a device may never end), larger, or not readable
    """
    try:
        # Not blocking: a pipe that nobody writes to would keep us waiting. Of a regular file it changes nothing.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except OSError as error:
        regular = "" if path.is_file() else "is not a regular file, or "
        raise UserError(f"{path} {regular}cannot be read ({error.strerror})") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise UserError(f"{path} is not a regular file")
        if facts.st_size > largest:
            limit = f"{largest >> 20} MiB" if largest >> 20 else f"{largest >> 10} KiB"
            raise UserError(f"{path} is larger than {limit}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(facts.st_size)
    finally:
        os.close(descriptor)


def read_text(path: Path, largest: int = TEXT) -> str:
    """A small text that someone else may have made, in UTF-8 with or without its mark; other bytes become U+FFFD.

    raises   UserError as `read_regular`
    """
    return read_regular(path, largest).decode("utf-8-sig", "replace")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; what was written there takes its place at the end.

    An exception leaves the old file as it was and nothing else behind; what a kill left, the next writer removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if len(os.fsencode(name)) > ROOM:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    for left in path.parent.glob(f".{glob.escape(name)}.*.tmp"):
        if not is_alive(left.suffixes[-2][1:]):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        with naming(path):
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder beside `path`; at the end it takes the place of whatever was there.

    An exception leaves the old folder as it was and nothing else behind; what a kill left behind, the
    next call clears.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    remove(temporary)
    temporary.mkdir(parents=True)
    try:
        with naming(path):
            yield temporary
        remove(path)
        temporary.replace(path)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Takes away a file, a link (not what it points to) or a folder with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an OSError that knows no file, as that of a write to a full disk, the name of this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Refuses a second process that would write the same file or folder: one would spoil the other's work.

    DVC alone may have been killed, and its stage live on.
    """
    lock = lock_file(out.resolve().as_posix().strip("/").replace("/", "-"))
    with naming(out), lock.open("a+") as file:
        if not try_lock(file):
            raise UserError(f"process {owner(file)} is writing {out}; wait for it, or end it")
        sign(file)
        yield


def lock_file(name: str) -> Path:
    """Where the lock of this name is; the main checkout's, for all that run in a copy too."""
    folder = machine.root() / ".fcn" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def try_lock(file: TextIO) -> bool:
    """Locks an open file until it is closed, or says that another has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sign(file: TextIO) -> None:
    """Leaves the process's number in a lock file, for whoever meets it locked."""
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def owner(file: TextIO) -> str:
    """The number of the process that locked a file."""
    file.seek(0)
    return file.read().strip()


def is_alive(process: str) -> bool:
    """Whether there is a process of this number; what is no number belongs to nobody we know, and so lives."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError, OverflowError):
        return True
    return True


def sha256(path: Path) -> str:
    """The digest of a file, or of a folder: of its files' names and digests, in order; bytecode does not count."""
    if path.is_dir():
        inside = [p for p in sorted(path.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
        lines = (f"{sha256(p)}  {p.relative_to(path).as_posix()}\n" for p in inside)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """The digest of a file that is published with no better one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], key: str, facts: object) -> None:
    """Writes a safetensors file, whole or not at all, with facts as one JSON string under one key.

    raises   OSError if the disk is full, as for any other file
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary, {key: json.dumps(facts, sort_keys=True)})
        except SafetensorError as error:
            number = re.search(r"\(os error (\d+)\)", str(error))
            if not number:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def acquire(path: Path) -> TextIO | None:
    """Locks a lock file until it is closed, by hand or by the process's end; None if somebody else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    if try_lock(file):
        return file
    file.close()
    return None


def is_held(path: Path) -> bool:
    """Whether a living process holds a lock file; asking changes nothing."""
    if not path.is_file():
        return False
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
