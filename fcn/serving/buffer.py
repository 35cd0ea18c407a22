"""Limits the memory that all requests together use."""

import asyncio
from enum import Enum, auto


class Stage(Enum):
    """The stage of a request: its body arrives, is complete and waits, or its response is being sent."""

    ARRIVING = auto()
    WAITING = auto()
    SENDING = auto()


class Buffer:
    """Counts the bytes of request bodies and responses.

    max_bytes   for all requests together; exceeded at most by one request and by one chunk of each of the others
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.sizes: dict[Stage, dict[object, int]] = {stage: {} for stage in Stage}  # oldest request first
        self.changed = asyncio.Event()

    def hold(self, request: object, stage: Stage, size: int) -> None:
        """Sets the stage of a request and the bytes that it holds."""
        for other in Stage:
            if other is not stage:
                self.sizes[other].pop(request, None)
        self.sizes[stage][request] = size
        self._notify()

    def drop(self, request: object) -> None:
        """Removes a request."""
        for requests in self.sizes.values():
            requests.pop(request, None)
        self._notify()

    async def room_to_read(self, request: object) -> None:
        """Waits until more of an arriving request may be read.

        The oldest one may exceed the limit if all other requests are arriving too; otherwise they would wait for each
        other forever.
        """
        while sum(map(self._size, Stage)) >= self.max_bytes:
            arriving, *others = (self.sizes[stage] for stage in Stage)
            if not any(others) and next(iter(arriving)) is request:
                break
            await self.changed.wait()

    async def room_to_answer(self) -> None:
        """Waits until the responses that are being sent leave room for one more."""
        while self._size(Stage.SENDING) >= self.max_bytes:
            await self.changed.wait()

    def _size(self, stage: Stage) -> int:
        return sum(self.sizes[stage].values())

    def _notify(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
