"""A file to fetch: where it lies, its digest, its licence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Archive:
    """A file to fetch: under this name in the mirror folder, else from these addresses in turn.

    sha256   its digest, or as much of it as its makers publish; None where it is not known, or its bytes vary
    md5      where only this digest is known: of the file, and of other forms in which servers send it
    sha1     where only this digest is known
    size     in bytes, where known
    members  whether each of its files is compared with a digest of its own
    pin      the file that records `sha256`, if its makers do not publish it
    licence  what its makers allow, in a line
    kind     what it holds: decides which folder of data/pins records its digest, and so which stage depends on it
    """

    name: str
    urls: tuple[str, ...]
    licence: str
    sha256: str | None = None
    size: int | None = None
    md5: tuple[str, ...] = ()
    sha1: str | None = None
    members: bool = False
    pin: Path | None = None
    kind: Literal["datasets", "weights"] = "datasets"

    @property
    def stem(self) -> str:
        """Its name without any ending."""
        return self.name.partition(".")[0]

    @property
    def has_digest(self) -> bool:
        """Whether what is fetched is compared with a whole digest; the first digits of one can be forged."""
        return len(self.sha256 or "") == 64 or bool(self.md5 or self.sha1) or self.members

    @property
    def notice(self) -> str:
        """What whoever uses the file is to be told."""
        return f"{self.name}: {self.licence}"


def at(address: str) -> tuple[str, str]:
    """The addresses of a file on a host that may lack https, which is tried first."""
    return f"https://{address}", f"http://{address}"
