"""HTTP connections that are closed if their client keeps them open without sending or reading.

uvicorn bounds the pause between two requests alone: neither a head that does not come to its end, nor an answer
that nobody reads.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 10.0  # seconds for a request's line and headers to arrive
READ = 60.0  # seconds for an answer to be read, but for what the kernel holds of it


class Connection(H11Protocol):
    """One client's connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # an answer counts as read when nothing of it is left in this process
        self.head: asyncio.TimerHandle | None = self.loop.call_later(HEAD, transport.abort)
        self.answer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._end_head()
        elif self.head is None:
            self.head = self.loop.call_later(HEAD, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None:  # whoever answers the request so far can say nothing more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # what follows a request that was answered is no HTTP
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.answer = self.loop.call_later(READ, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._end_answer()
        super().connection_lost(exc)

    def _end_head(self) -> None:
        if self.head is not None:
            self.head.cancel()
            self.head = None

    def _end_answer(self) -> None:
        if self.answer is not None:
            self.answer.cancel()
            self.answer = None
