"""Ends a computation that takes too long, or whose client has left, between two of its steps."""

import time
from contextvars import ContextVar
from threading import Event

from fcn.runtime.errors import UserError


class StoppedError(UserError):
    """The computation has no time left, or nobody waits for its result."""


class Limit:
    """How long a computation may take.

    seconds   from `begin` on
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends: float | None = None
        self.left = Event()  # by its client

    def begin(self) -> None:
        self.ends = time.monotonic() + self.seconds

    def check(self) -> None:
        """raises   StoppedError if there is no time left, or the client has left"""
        if self.left.is_set():
            raise StoppedError("the client has left")
        if self.ends is not None and time.monotonic() > self.ends:
            raise StoppedError(f"the request took more than {self.seconds:g} seconds; send fewer or smaller images")


# Of the request that is computed. A context, since MLflow's server stands between the request and the net.
CURRENT: ContextVar[Limit | None] = ContextVar("limit", default=None)


def check() -> None:
    """raises   StoppedError if the current computation is to end; there may be no limit"""
    if limit := CURRENT.get():
        limit.check()
