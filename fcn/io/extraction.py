"""What an archive may give: regular files that were asked for by name, never more bytes than expected.

Nothing is written but to places that the caller chose, so no name in an archive can lead anywhere; and
nothing that an archive says of itself (sizes, counts) is believed: what is really read is counted.
"""

import bz2
import errno
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from fcn.runtime.errors import UserError, first_line

MOST = 64 << 20  # bytes of one file; the largest image of the data sets we read has 20 MB
MOST_ENTRIES = 200_000  # the largest of these archives has some 60 000
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)  # of a zip's files
MOST_RATIO = 100  # bytes out of all its files for each of the archive's own; pictures hardly shrink
DIRECTORY = 32 << 20  # bytes of a zip file's directory, or of what a tar file says about one member
PIECE = 1 << 20
COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError),
    MemoryError,  # a .tar.xz, too, says how much memory it takes
    *(NotImplementedError, RuntimeError),  # zipfile's words for a method it lacks and for a password
    # Both modules' words for numbers, names and dates that cannot be.
    *(ValueError, IndexError, OverflowError, struct.error),
)
DAMAGE = (None, errno.EINVAL)  # bz2's errors have no number; a place before the file's beginning is an invalid one
Member = tarfile.TarInfo | zipfile.ZipInfo


class _Bounded(io.RawIOBase):
    """A stream that gives `budget` bytes until that is renewed: no header can ask for all our memory."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream, self.budget = path, stream, DIRECTORY

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(self.budget + 1 if size < 0 else min(size, self.budget + 1))
        self.budget -= len(content)
        if self.budget < 0:
            raise UserError(f"{self.path} says more about its files than is believable; delete it")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def seekable(self) -> bool:
        return True


class Contents:
    """An open tar or zip archive, whatever its compression."""

    def __init__(self, path: Path, stream: _Bounded, archive: tarfile.TarFile | zipfile.ZipFile) -> None:
        self.path, self.stream, self.archive = path, stream, archive
        self.most = max(MOST, MOST_RATIO * path.stat().st_size)  # bytes out of the whole archive
        self.given = 0

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        raises   UserError if it is missing, twice there, no regular file, or too large
        """
        ((_, content),) = self.files({name})
        return content

    def files(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of each wanted file, in the archive's order: a compressed one is read only once.

        raises   as `read`, naming some of those that are missing; and if a wanted name leads out of a
                 folder, or two are one on a file system that does not tell A from a
        """
        for name in wanted:
            if name.startswith("/") or ".." in PurePosixPath(name).parts or set(name) & set("\\:\0"):
                raise UserError(f"{self.path}: {name!r} is no name for a file of a data set")
        if len({name.casefold() for name in wanted}) < len(wanted):
            raise UserError(f"{self.path}: two of its files would have the same name")
        found = self._found(wanted)
        while True:
            with _said(self.path):  # around the archive's own errors, not around those of who reads here
                pair = next(found, None)
            if pair is None:
                return
            yield pair

    def _found(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        seen: set[str] = set()
        for name, regular, member in self._members():
            if name not in wanted:
                continue
            if name in seen:
                raise UserError(f"{self.path} holds {name} twice")
            if not regular:
                raise UserError(f"{self.path}: {name} is a link or a device, not a file")
            seen.add(name)
            yield name, self._bytes(name, member)
        if missing := sorted(wanted - seen):
            raise UserError(f"{self.path} lacks {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}")

    def root(self, name: str) -> str:
        """What stands before a file's name in this archive: nothing, or folders with a last slash.

        raises   UserError if it is nowhere
        """
        with _said(self.path):
            for member, _, _ in self._members():
                if member == name or member.endswith(f"/{name}"):
                    return member.removesuffix(name)
        raise UserError(f"{self.path} lacks {name}")

    def _members(self) -> Iterator[tuple[str, bool, Member]]:
        """Name, whether it is a regular file, and entry; with the stream's budget renewed for each."""
        infos = self.archive.infolist() if isinstance(self.archive, zipfile.ZipFile) else self.archive
        for number, info in enumerate(cast(Iterator[Member], infos)):
            if number == MOST_ENTRIES:
                raise UserError(f"{self.path} has more than {MOST_ENTRIES} entries; delete it")
            if isinstance(info, zipfile.ZipInfo):
                # Unix's file type, in the upper half: zero or regular, else a link or worse.
                yield info.filename, (info.external_attr >> 28) in (0, 8) and not info.is_dir(), info
            else:
                # What is skipped is decompressed too; and a sparse file's zeros are in no archive.
                if info.size < 0 or info.offset_data + info.size > self.most:
                    raise UserError(f"{self.path}: {info.name} ends beyond {self.most >> 20} MiB; delete it")
                name = info.name.removeprefix("./")
                yield name, info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse(), info
            self.stream.budget = DIRECTORY

    def _bytes(self, name: str, member: Member) -> bytes:
        self.stream.budget = 2 * MOST  # a decompressor reads ahead
        if isinstance(self.archive, zipfile.ZipFile):
            info = cast(zipfile.ZipInfo, member)
            if info.compress_type not in METHODS:  # LZMA takes as much memory as the file says, up to 4 GiB
                raise UserError(f"{self.path}: {name} is compressed by method {info.compress_type}; pack it again")
            file: IO[bytes] | None = self.archive.open(info)
        else:
            file = self.archive.extractfile(cast(tarfile.TarInfo, member))
        if file is None:
            raise UserError(f"{self.path}: {name} is a link or a device, not a file")
        content = bytearray()
        with file:
            while piece := file.read(PIECE):  # whatever size the archive claims
                content += piece
                if len(content) > MOST:
                    raise UserError(f"{self.path}: {name} has more than {MOST >> 20} MiB")
        self.given += len(content)
        if self.given > self.most:
            raise UserError(f"{self.path} gives more than {MOST_RATIO} times its own bytes; delete it")
        return bytes(content)


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """An archive for reading; what is wrong with it, at any point, is said in one line."""
    with ExitStack() as stack:
        with _said(path):
            file: IO[bytes] = stack.enter_context(path.open("rb"))
            zipped, start = zipfile.is_zipfile(file), file.seek(0) or file.read(2)
            file.seek(0)
            if start in COMPRESSIONS and not zipped:
                file = stack.enter_context(cast(IO[bytes], COMPRESSIONS[start](file)))
            stream = _Bounded(path, file)
            archive: zipfile.ZipFile | tarfile.TarFile
            archive = zipfile.ZipFile(cast(IO[bytes], stream)) if zipped else tarfile.TarFile(fileobj=stream)
            stack.enter_context(archive)
            contents = Contents(path, stream, archive)
        yield contents


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Says in one line what tarfile, zipfile and the decompressors have found to be wrong."""
    try:
        yield
    except UserError:
        raise
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in DAMAGE:
            raise
        reason = first_line(error)
        raise UserError(f"{path} is no whole archive ({reason}); delete it and fetch it again") from None


def write(
    contents: Contents,
    places: Mapping[str, Path],
    change: Callable[[str, bytes], bytes] = lambda where, content: content,
) -> None:
    """Writes files to the places given for their names.

    change   what to write in place of a file's bytes, from where it is, archive and name, and these bytes
    raises   UserError if two places are one on a file system that does not tell A from a
    """
    folded = {str(place).casefold() for place in places.values()}
    if len(folded) < len(places):
        raise UserError(f"{contents.path}: two of its files would have the same name")
    for name, content in contents.files(set(places)):
        places[name].parent.mkdir(parents=True, exist_ok=True)
        places[name].write_bytes(change(f"{contents.path}: {name}", content))
