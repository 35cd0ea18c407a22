"""Atomic file writes (temporary name, fsync, rename) and digests."""

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
from typing import TYPE_CHECKING

from fcn.runtime.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image
    from torch import Tensor

MAX_NAME = 255 - len("..1234567890.tmp")  # bytes of a file name, so that its temporary name is not too long
TEXT = 16 << 20  # maximum bytes of a list or class table; a list of 100,000 pairs with paths has 10 MB


def read_regular(path: Path, largest: int) -> bytes:
    """Reads an untrusted file.

    largest  maximum size in bytes
    raises   UserError if it is missing, larger, unreadable or not a regular file (a pipe or device may never end)
    """
    try:
        # Non-blocking, since opening a pipe without a writer would wait forever; no effect on regular files.
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
    """Reads an untrusted UTF-8 text, with or without BOM; invalid bytes become U+FFFD.

    raises   UserError as `read_regular`
    """
    return read_regular(path, largest).decode("utf-8-sig", "replace")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on exit, the file written there replaces `path`.

    After an exception the old file is unchanged and the temporary file removed. Temporary files left by a killed
    process are removed by the next writer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if len(os.fsencode(name)) > MAX_NAME:
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
    """Yields an empty folder beside `path`; on exit, it replaces whatever is at `path`.

    After an exception the old folder is unchanged and the temporary folder removed. What a killed process left is
    removed by the next call.
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
    """Removes a file, a link (not its target) or a folder with its content; does nothing if `path` does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds the file name to an OSError that has none, such as that of a write to a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_png(path: Path, picture: "Image.Image | Figure") -> None:
    """Writes a PIL image or a matplotlib figure as a PNG file, atomically."""
    from PIL import Image

    with replacing(path) as temporary:
        if isinstance(picture, Image.Image):
            picture.save(temporary, "png")
        else:
            picture.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], key: str, facts: object) -> None:
    """Writes a safetensors file atomically, with `facts` as one JSON string under `key` in its metadata.

    raises   OSError if the disk is full, instead of safetensors' own error
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


def read_tensors(path: Path) -> dict[str, "Tensor"]:
    """The tensors of a safetensors file.

    raises   SafetensorError if it is damaged
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping


def read_metadata(path: Path, key: str) -> str:
    """The JSON string under `key` in the metadata of a safetensors file, whose tensors are not read.

    raises   KeyError if there is none, SafetensorError if the file is damaged
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return str((file.metadata() or {})[key])


def is_alive(process: str) -> bool:
    """Whether a process with this id exists. True for an invalid id, so that unknown files are not removed."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError, OverflowError):
        return True
    return True


def sha256(path: Path) -> str:
    """sha256 of a file, or of a folder: of its files' sorted names and digests, without `__pycache__`."""
    if path.is_dir():
        inside = [p for p in sorted(path.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
        lines = (f"{sha256(p)}  {p.relative_to(path).as_posix()}\n" for p in inside)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """md5 of a file, for digests published or recorded as md5."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
