"""A file to fetch: its addresses, digest and licence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Archive:
    """A file to fetch, by its name from the mirror folder or else from its addresses in turn.

    sha256   digest, or the published prefix of it; None if it is unknown, or the bytes vary
    md5      digests of the file and of the other forms in which servers send it, if no sha256 is known
    sha1     digest, if no sha256 is known
    size     in bytes, if known
    members  whether each file inside is compared with a digest
    pin      the file that records `sha256`, if it is not published
    licence  the terms of use, in one line
    kind     selects the folder of data/pins that records the digest, and with it the stage that depends on it
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
        """The name without suffixes."""
        return self.name.partition(".")[0]

    @property
    def has_digest(self) -> bool:
        """Whether the file is verified with a full digest; a prefix of one can be forged."""
        return len(self.sha256 or "") == 64 or bool(self.md5 or self.sha1) or self.members

    @property
    def notice(self) -> str:
        """The licence notice that is printed for users of the file."""
        return f"{self.name}: {self.licence}"


def https_or_http(address: str) -> tuple[str, str]:
    """The addresses of a file on a host that may lack https; https is tried first."""
    return f"https://{address}", f"http://{address}"
