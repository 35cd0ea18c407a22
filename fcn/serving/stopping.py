"""Stops a computation between two of its steps, if it takes too long or its client has disconnected."""

import time
from contextvars import ContextVar
from threading import Event

from fcn.runtime.errors import UserError


class StoppedError(UserError):
    """The computation has run out of time, or its client has disconnected."""


class Limit:
    """The time limit of a computation.

    seconds   counted from `start`
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deadline: float | None = None  # of time.monotonic, once started
        self.disconnected = Event()

    def start(self) -> None:
        self.deadline = time.monotonic() + self.seconds

    def check(self) -> None:
        """Raises StoppedError if the time is up or the client has disconnected."""
        if self.disconnected.is_set():
            raise StoppedError("the client has disconnected")
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise StoppedError(f"the request took more than {self.seconds:g} seconds; send fewer or smaller images")


# The limit of the current request. A context variable passes it through MLflow's server to the net.
CURRENT: ContextVar[Limit | None] = ContextVar("limit", default=None)


def check() -> None:
    """Raises StoppedError if the current computation must stop. Does nothing if it has no limit."""
    if limit := CURRENT.get():
        limit.check()
