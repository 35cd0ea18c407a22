"""A bound for the memory that many requests hold together."""

import asyncio
from enum import Enum, auto


class Stage(Enum):
    """How far a request has come: its body arrives, waits whole, or its answer is being sent."""

    ARRIVING = auto()
    WAITING = auto()
    LEAVING = auto()


class Buffer:
    """Counts the bytes of bodies and answers.

    most   bytes for all together; exceeded by one request, and by a piece of each of the others, at most
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: dict[Stage, dict[object, int]] = {stage: {} for stage in Stage}  # the oldest first
        self.changed = asyncio.Event()

    def hold(self, request: object, stage: Stage, size: int) -> None:
        """So many bytes of a request are held."""
        for other in Stage:
            if other is not stage:
                self.held[other].pop(request, None)
        self.held[stage][request] = size
        self._notify()

    def drop(self, request: object) -> None:
        """Nothing of a request is held any more."""
        for requests in self.held.values():
            requests.pop(request, None)
        self._notify()

    async def room_to_read(self, request: object) -> None:
        """Waits until more of an arriving request may be read.

        The oldest of them is read on without room if nothing else is held: else each would wait for the others.
        """
        while sum(map(self._size, Stage)) >= self.most:
            arriving, *others = (self.held[stage] for stage in Stage)
            if not any(others) and next(iter(arriving)) is request:
                break
            await self.changed.wait()

    async def room_to_answer(self) -> None:
        """Waits until the answers on their way leave room for one more."""
        while self._size(Stage.LEAVING) >= self.most:
            await self.changed.wait()

    def _size(self, stage: Stage) -> int:
        return sum(self.held[stage].values())

    def _notify(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
