"""A user's mistake, or a full disk, ends in one clear line; our own mistakes end in a traceback."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """What is wrong, where, and what to do, in one line."""


@contextmanager
def one_line() -> Iterator[None]:
    """Turns a user's mistake or the machine's refusal into `error: …` and a non-zero exit."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno is None:  # a library's own error in disguise, not the machine's
            raise
        advice = "; free some room and run the same command again" if is_full(error) else ""
        name = f": {error.filename}" if error.filename else ""
        sys.exit(f"error: {error.strerror}{name}{advice}")
    except KeyboardInterrupt:
        sys.exit(130)


def is_full(error: OSError) -> bool:
    """Whether the disk, the quota or the limit on a file's size is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
