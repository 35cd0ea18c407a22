"""A user's mistake, or a full disk, ends in one clear line; our own mistakes end in a traceback."""

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn


class UserError(ValueError):
    """What is wrong, where, and what to do, in one line."""


@contextmanager
def one_line() -> Iterator[None]:
    """Turns a user's mistake or the machine's refusal into `error: …` and a non-zero exit."""
    try:
        yield
    except UserError as error:
        _end(f"error: {error}")
    except OSError as error:
        if error.errno is None:  # a library's own error in disguise, not the machine's
            raise
        advice = "; free some room and run the same command again" if is_full(error) else ""
        name = f": {error.filename}" if error.filename else ""
        _end(f"error: {error.strerror}{name}{advice}")
    except KeyboardInterrupt:
        sys.exit(130)


def _end(line: str) -> NoReturn:
    """Ends this process with a line; one of a group leaves it to the process that began them, to say it once.

    What is wrong may be the name of a file or of a class, and hold anything.
    """
    line = "\n".join(map(printable, line.split("\n")))
    if place := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        whole = Path(f"{place}.tmp")
        with suppress(OSError):  # a full disk may be what there is to say
            whole.write_text(json.dumps({"message": line, "timestamp": int(time.time())}))
            whole.rename(place)  # the one who reads it may come at any moment
            sys.exit(1)
    sys.exit(line)


def is_full(error: OSError) -> bool:
    """Whether the disk, the quota or the limit on a file's size is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def printable(text: str) -> str:
    """A line of others for a terminal, which would obey control characters: they are escaped, as in a Python string."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def in_one_line(error: BaseException) -> str:
    """What an error of others says, or its kind if it says nothing."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what an error of others says, which may go on for pages, or its kind if it says nothing."""
    return printable(next(iter(str(error).splitlines()), type(error).__name__))
