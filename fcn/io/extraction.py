"""Read files from untrusted tar and zip archives: only regular files requested by name, with size limits.

Files are written only to paths that the caller gives, so a name in an archive cannot escape the output folder. Sizes
and counts in headers are not trusted; the bytes actually read are counted.
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

MAX_FILE_SIZE = 64 << 20  # bytes; the largest image of the supported data sets has 20 MB
MAX_ENTRIES = 200_000  # the largest archive of the supported data sets has about 60 000
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)  # compression methods accepted in a zip
MAX_RATIO = 100  # compression ratio of the whole archive; images hardly compress
MAX_METADATA = 32 << 20  # bytes of a zip's directory, or of a tar's headers for one member
PIECE = 1 << 20
COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError),
    MemoryError,  # the header of a .tar.xz sets the memory that decompression takes
    *(NotImplementedError, RuntimeError),  # zipfile raises these for unknown methods and for passwords
    # Both modules raise these for invalid numbers, names and dates.
    *(ValueError, IndexError, OverflowError, struct.error),
)
# errno of an OSError caused by a broken archive: bz2's errors have none, seeking to a negative offset gives EINVAL.
DAMAGE = (None, errno.EINVAL)
Member = tarfile.TarInfo | zipfile.ZipInfo


class _Bounded(io.RawIOBase):
    """A stream that reads at most `budget` bytes until the budget is reset, so that no header can exhaust memory."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream, self.budget = path, stream, MAX_METADATA

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(self.budget + 1 if size < 0 else min(size, self.budget + 1))
        self.budget -= len(content)
        if self.budget < 0:
            raise UserError(f"{self.path} has more than {MAX_METADATA >> 20} MiB of metadata; delete it")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def seekable(self) -> bool:
        return True


class Contents:
    """An open tar or zip archive with any supported compression."""

    def __init__(self, path: Path, stream: _Bounded, archive: tarfile.TarFile | zipfile.ZipFile) -> None:
        self.path, self.stream, self.archive = path, stream, archive
        self.max_bytes = max(MAX_FILE_SIZE, MAX_RATIO * path.stat().st_size)  # of all its files, decompressed
        self.bytes_read = 0

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        raises   UserError if it is missing, duplicated, not a regular file, or too large
        """
        ((_, content),) = self.files({name})
        return content

    def files(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of each wanted file, in the archive's order, so that compressed archives are read once.

        raises   UserError as `read` does, listing missing files; also if a wanted name is not a plain relative path, or
                 if two wanted names are equal on a case-insensitive file system
        """
        for name in wanted:
            if name.startswith("/") or ".." in PurePosixPath(name).parts or set(name) & set("\\:\0"):
                raise UserError(f"{self.path}: {name!r} is not a valid file name")
        if len({name.casefold() for name in wanted}) < len(wanted):
            raise UserError(f"{self.path}: two of its files would have the same name")
        pairs = self._select(wanted)
        while True:
            with _one_line(self.path):  # wraps errors of the archive, not those of the caller between two yields
                pair = next(pairs, None)
            if pair is None:
                return
            yield pair

    def _select(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        names_read: set[str] = set()
        for name, regular, member in self._members():
            if name not in wanted:
                continue
            if name in names_read:
                raise UserError(f"{self.path} holds {name} twice")
            if not regular:
                raise UserError(f"{self.path}: {name} is a link or a device, not a file")
            names_read.add(name)
            yield name, self._bytes(name, member)
        if missing := sorted(wanted - names_read):
            raise UserError(f"{self.path} lacks {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}")

    def root(self, name: str) -> str:
        """The prefix of a file's path in this archive: empty, or folders with a trailing slash.

        raises   UserError if the file is missing
        """
        with _one_line(self.path):
            for member, _, _ in self._members():
                if member == name or member.endswith(f"/{name}"):
                    return member.removesuffix(name)
        raise UserError(f"{self.path} lacks {name}")

    def _members(self) -> Iterator[tuple[str, bool, Member]]:
        """Name, whether it is a regular file, and entry of each member; resets the stream's budget for each."""
        infos = self.archive.infolist() if isinstance(self.archive, zipfile.ZipFile) else self.archive
        for number, info in enumerate(cast(Iterator[Member], infos)):
            if number == MAX_ENTRIES:
                raise UserError(f"{self.path} has more than {MAX_ENTRIES} entries; delete it")
            if isinstance(info, zipfile.ZipInfo):
                # The Unix file type is in the upper bits: 0 (unset) and 8 (regular) are accepted, not links or devices.
                yield info.filename, (info.external_attr >> 28) in (0, 8) and not info.is_dir(), info
            else:
                # Skipped members are decompressed too. Sparse files are refused: their zeros are not in the archive.
                if info.size < 0 or info.offset_data + info.size > self.max_bytes:
                    raise UserError(f"{self.path}: {info.name} ends beyond {self.max_bytes >> 20} MiB; delete it")
                name = info.name.removeprefix("./")
                yield name, info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse(), info
            self.stream.budget = MAX_METADATA

    def _bytes(self, name: str, member: Member) -> bytes:
        self.stream.budget = 2 * MAX_FILE_SIZE  # a decompressor reads ahead
        if isinstance(self.archive, zipfile.ZipFile):
            info = cast(zipfile.ZipInfo, member)
            if info.compress_type not in METHODS:  # LZMA's header sets its memory use, up to 4 GiB
                raise UserError(f"{self.path}: {name} is compressed by method {info.compress_type}; pack it again")
            file: IO[bytes] | None = self.archive.open(info)
        else:
            file = self.archive.extractfile(cast(tarfile.TarInfo, member))
        if file is None:
            raise UserError(f"{self.path}: {name} is a link or a device, not a file")
        content = bytearray()
        with file:
            while piece := file.read(PIECE):
                content += piece
                if len(content) > MAX_FILE_SIZE:
                    raise UserError(f"{self.path}: {name} has more than {MAX_FILE_SIZE >> 20} MiB")
        self.bytes_read += len(content)
        if self.bytes_read > self.max_bytes:
            raise UserError(f"{self.path} decompresses to more than {MAX_RATIO} times its size; delete it")
        return bytes(content)


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """Open an archive for reading.

    raises   UserError of one line if it is broken, also while its files are read
    """
    with ExitStack() as stack:
        with _one_line(path):
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
def _one_line(path: Path) -> Iterator[None]:
    """Convert the errors of tarfile, zipfile and the decompressors to a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in DAMAGE:
            raise
        reason = first_line(error)
        raise UserError(f"{path} is a broken archive ({reason}); delete it and fetch it again") from None


def write(
    contents: Contents,
    targets: Mapping[str, Path],
    convert: Callable[[str, bytes], bytes] = lambda where, content: content,
) -> None:
    """Extract files.

    targets  output path by name in the archive
    convert  maps a file's location ("ARCHIVE: NAME", for error messages) and bytes to the bytes to write
    raises   UserError if two output paths are equal on a case-insensitive file system
    """
    folded = {str(path).casefold() for path in targets.values()}
    if len(folded) < len(targets):
        raise UserError(f"{contents.path}: two of its files would have the same name")
    for name, content in contents.files(set(targets)):
        targets[name].parent.mkdir(parents=True, exist_ok=True)
        targets[name].write_bytes(convert(f"{contents.path}: {name}", content))
