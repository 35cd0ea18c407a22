"""Error reporting: user errors and system errors end in one line, bugs in a traceback."""

import errno
import json
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

STDOUT = 1
URI = re.compile(r"\w[\w+.-]*://[^\s'\"<>]+")
BROKEN_PIPE = 141  # exit status that a shell reports for SIGPIPE


class UserError(ValueError):
    """An error that the user can fix. The message says in one line what is wrong, where, and what to do."""


@contextmanager
def one_line() -> Iterator[None]:
    """Turns a UserError or OSError into a line `error: …` and a non-zero exit status."""
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        _end(f"error: {error}")
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _discard_output():
            sys.exit(BROKEN_PIPE)
        if error.errno is None:  # raised by a library, not by the operating system
            raise
        advice = "; free some room and run the same command again" if is_full(error) else ""
        name = f": {error.filename}" if error.filename else ""
        _end(f"error: {error.strerror}{name}{advice}")
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit:  # for example after --help
        _discard_output()
        raise


def _discard_output() -> bool:
    """Discards further output if the reader of a piped stdout has closed it, as `head` does; True if it has."""
    stdout = select.poll()
    stdout.register(STDOUT, 0)  # POLLERR and POLLHUP are always reported
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in stdout.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return True


def _end(line: str) -> NoReturn:
    """Exits with an error message. A process started by torchrun passes it to its parent, which prints it once.

    The line may contain a file or class name with arbitrary characters, so it is made printable.
    """
    _discard_output()
    line = "\n".join(map(printable, line.split("\n")))
    if error_file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        temporary = Path(f"{error_file}.tmp")
        with suppress(OSError):  # the error may be a full disk
            temporary.write_text(json.dumps({"message": line, "timestamp": int(time.time())}))
            temporary.rename(error_file)  # atomic, since the parent may read it at any time
            sys.exit(1)
    sys.exit(line)


def shortened(text: str, most: int = 80) -> str:
    """Untrusted text for a message: quoted, escaped, and cut to `most` characters."""
    return repr(text if len(text) <= most else f"{text[:most]}…")


def is_full(error: OSError) -> bool:
    """Whether the error is a full disk, an exhausted quota or a file size limit."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def printable(text: str) -> str:
    """Untrusted text for a terminal: control characters are escaped as in a Python string."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def in_one_line(error: BaseException) -> str:
    """A library's error message in one line, or the error's class name if it has no message."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def without_credentials(text: str) -> str:
    """Removes user names, passwords and query values from the URLs in a text."""
    return URI.sub(lambda match: redacted(match[0]), text)


def redacted(uri: str) -> str:
    """A URL without user name, password and query values. sqlite and file URIs are returned unchanged."""
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme.startswith(("sqlite", "file")):
        return uri
    user, _, rest = rest.rpartition("@")  # the last @: passwords may contain @, slashes and question marks
    hidden = "***@" if set(user) & set("/?#") else ""
    return scheme + mark + hidden + re.sub(r"([?&;][^=&;#]*)=[^&;#]*", r"\1=***", rest)


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, or the error's class name if it has no message."""
    return printable(next(iter(str(error).splitlines()), type(error).__name__))


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun in singular or plural: `1 image`, `2 images`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
