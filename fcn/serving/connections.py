"""HTTP connections with timeouts for clients that stop sending or reading.

uvicorn only limits the idle time between two requests. It does not limit how long a client takes to send the headers
or to read the response.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT = 10.0  # seconds for the request line and headers to arrive
READ_TIMEOUT = 60.0  # seconds for the client to read a response, apart from what the kernel buffers


class Connection(H11Protocol):
    """One client's connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # a response counts as read when this process has no more of it to send
        self.header_timer: asyncio.TimerHandle | None = self.loop.call_later(HEADER_TIMEOUT, transport.abort)
        self.read_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_header_timer()
        elif self.header_timer is None:
            self.header_timer = self.loop.call_later(HEADER_TIMEOUT, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None:  # the application cannot send any more of its response
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # the data after a request with a complete response is not HTTP
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.read_timer = self.loop.call_later(READ_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_header_timer()
        self._cancel_read_timer()
        super().connection_lost(exc)

    def _cancel_header_timer(self) -> None:
        if self.header_timer is not None:
            self.header_timer.cancel()
            self.header_timer = None

    def _cancel_read_timer(self) -> None:
        if self.read_timer is not None:
            self.read_timer.cancel()
            self.read_timer = None
