"""A user's mistake, or a full disk, ends in one clear line; our own mistakes end in a traceback."""

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
BROKEN_PIPE = 141  # the exit status that a shell reports for SIGPIPE


class UserError(ValueError):
    """What is wrong, where, and what to do, in one line."""


@contextmanager
def one_line() -> Iterator[None]:
    """Turns a user's mistake or the machine's refusal into `error: …` and a non-zero exit."""
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        _end(f"error: {error}")
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _discard_output():
            sys.exit(BROKEN_PIPE)
        if error.errno is None:  # a library's own error in disguise, not the machine's
            raise
        advice = "; free some room and run the same command again" if is_full(error) else ""
        name = f": {error.filename}" if error.filename else ""
        _end(f"error: {error.strerror}{name}{advice}")
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit:  # as of --help
        _discard_output()
        raise


def _discard_output() -> bool:
    """Whether the reader of a piped stdout has left, as `head` does; what is still to be printed is then discarded."""
    stdout = select.poll()
    stdout.register(STDOUT, 0)  # errors are always reported
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in stdout.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return True


def _end(line: str) -> NoReturn:
    """Ends this process with a line; one of a group leaves it to the process that began them, to say it once.

    What is wrong may be the name of a file or of a class, and hold anything.
    """
    _discard_output()
    line = "\n".join(map(printable, line.split("\n")))
    if place := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        whole = Path(f"{place}.tmp")
        with suppress(OSError):  # a full disk may be what there is to say
            whole.write_text(json.dumps({"message": line, "timestamp": int(time.time())}))
            whole.rename(place)  # the one who reads it may come at any moment
            sys.exit(1)
    sys.exit(line)


def shortened(text: str, most: int = 80) -> str:
    """A text of others as a message repeats it: in quotes, unprintable characters escaped, not endless."""
    return repr(text if len(text) <= most else f"{text[:most]}…")


def is_full(error: OSError) -> bool:
    """Whether the disk, the quota or the limit on a file's size is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def printable(text: str) -> str:
    """A line of others for a terminal, which would obey control characters: they are escaped, as in a Python string."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def in_one_line(error: BaseException) -> str:
    """What an error of others says, or its kind if it says nothing."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def without_credentials(text: str) -> str:
    """Text without the user names, passwords and values of queries that stand in its addresses."""
    return URI.sub(lambda match: bare(match[0]), text)


def bare(uri: str) -> str:
    """An address without user name and password; of its query without the values. Paths of files stay as they are."""
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme.startswith(("sqlite", "file")):
        return uri
    user, _, rest = rest.rpartition("@")  # the last one: some passwords have slashes, question marks or more of them
    hidden = "***@" if set(user) & set("/?#") else ""
    return scheme + mark + hidden + re.sub(r"([?&;][^=&;#]*)=[^&;#]*", r"\1=***", rest)


def first_line(error: BaseException) -> str:
    """The first line of what an error of others says, which may go on for pages, or its kind if it says nothing."""
    return printable(next(iter(str(error).splitlines()), type(error).__name__))


def counted(count: int, one: str, many: str = "") -> str:
    """A number and its noun: `1 image`, `2 images`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
