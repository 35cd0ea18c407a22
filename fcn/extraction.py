"""What an archive may give: regular files that were asked for by name, never more bytes than expected.

Nothing is written but to places that the caller chose, so no name in an archive can lead anywhere.
"""

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fcn.errors import UserError

MOST = 64 << 20  # bytes of one file; the largest image of the data sets we read has 20 MB
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError),
    *(NotImplementedError, RuntimeError),  # zipfile's words for a method it lacks and for a password
)


class Contents:
    """An open tar or zip archive, whatever its compression."""

    def __init__(self, path: Path, archive: tarfile.TarFile | zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        raises   UserError if it is missing, twice there, no regular file, or too large
        """
        ((_, content),) = self.files({name})
        return content

    def files(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of each wanted file, in the archive's order: a compressed one is read only once.

        raises   as `read`, naming some of those that are missing
        """
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
        for member, _, _ in self._members():
            if member == name or member.endswith(f"/{name}"):
                return member.removesuffix(name)
        raise UserError(f"{self.path} lacks {name}")

    def _members(self) -> Iterator[tuple[str, bool, tarfile.TarInfo | zipfile.ZipInfo]]:
        if isinstance(self.archive, zipfile.ZipFile):
            for info in self.archive.infolist():
                # Unix's file type, in the upper half: zero or regular, else a link or worse.
                yield info.filename, (info.external_attr >> 28) in (0, 8) and not info.is_dir(), info
        else:
            for member in self.archive:
                yield member.name.removeprefix("./"), member.isreg(), member

    def _bytes(self, name: str, member: tarfile.TarInfo | zipfile.ZipInfo) -> bytes:
        file: IO[bytes] | None
        if isinstance(self.archive, zipfile.ZipFile):
            assert isinstance(member, zipfile.ZipInfo)
            file = self.archive.open(member)
        else:
            assert isinstance(member, tarfile.TarInfo)
            file = self.archive.extractfile(member)
        assert file is not None
        with file:
            content = file.read(MOST + 1)  # whatever size the archive claims
        if len(content) > MOST:
            raise UserError(f"{self.path}: {name} has more than {MOST >> 20} MiB")
        return content


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """An archive for reading; what is wrong with it, at any point, is said in one line."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                yield Contents(path, zipped)
        else:
            with tarfile.open(path) as tarred:
                yield Contents(path, tarred)
    except BROKEN as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
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
