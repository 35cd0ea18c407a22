"""What stands before MLflow's scoring server, which reads requests of any size from anyone and tells errors at length.

Bodies are read as they come, within bounds of size, speed and memory, and computed one after the other. What is
refused, here or behind, is told in one line.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fcn.serving.buffer import Buffer, Stage
from fcn.serving.stopping import CURRENT, Limit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PATHS = ("/invocations", "/ping", "/health", "/version")  # FastAPI adds /docs, /redoc and /openapi.json
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HELD = 3  # times the longest request: bytes of all bodies and answers in memory
SILENCE = 10.0  # seconds from which on a body has to have come at RATE
RATE = 64 << 10  # bytes a second
PATIENCE = 120.0  # seconds for a whole body
STRUCTURE = 200  # brackets and commas of the JSON around base64 text, which has none: no room for a bomb
DRAINED = 8  # times the longest, read and dropped: a client that still sends does not hear the answer
LINE = 300  # characters of what an error says
CODES = {400: "BAD_REQUEST", 403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND", 408: "DEADLINE_EXCEEDED"}


class RefusedError(Exception):
    """A request that is not computed, with its status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


class DisconnectedError(Exception):
    """The client closed the connection before its request was whole."""


class RequestLimits:
    """An ASGI application around another.

    longest   bytes that a request may have
    seconds   of computing that a request may take
    hosts     names by which this server may be called, beside those of the loopback
    """

    def __init__(self, app: App, longest: int, seconds: float, hosts: Collection[str] = ()) -> None:
        self.app, self.longest, self.seconds = app, longest, seconds
        self.hosts = {host.lower() for host in (*LOOPBACK, *hosts)}
        self.turn = asyncio.Lock()
        self.buffer = Buffer(HELD * longest)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        request = object()
        try:
            if reply := await self._reply(request, scope, receive, send):
                self.buffer.hold(request, Stage.LEAVING, len(reply.body))
                await reply.send(send)
        finally:
            self.buffer.drop(request)

    async def _reply(self, request: object, scope: Message, receive: Receive, send: Send) -> "Reply | None":
        """What is to be sent; None if the application has sent it, or nobody is there."""
        try:
            self._check_head(scope)
            if scope["path"] != "/invocations" or scope["method"] != "POST":
                await self.app(scope, receive, send)
                return None
            self.buffer.hold(request, Stage.ARRIVING, 0)
            return await self._computed(scope, [await self._read(request, scope, receive)], receive)
        except RefusedError as refused:
            return Reply().say(refused.status, CODES[refused.status], refused.line)
        except DisconnectedError:
            return None

    def _check_head(self, scope: Message) -> None:
        """A web page of another name, which may have been made to mean this machine, must not ask this server."""
        named, origins = (
            [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
            for wanted in (b"host", b"origin")
        )
        for text in (*(f"//{host}" for host in named), *origins):
            if _hostname(text) not in self.hosts:
                line = f"{text.removeprefix('//')[:100]!r} is refused; `fcn serve --allow-host` adds a name"
                raise RefusedError(403, line)
        if len(named) != 1:
            raise RefusedError(403, "the request needs one header Host")
        if scope["path"] not in PATHS:
            raise RefusedError(404, f"there is nothing here; there is {', '.join(PATHS)}")

    async def _read(self, request: object, scope: Message, receive: Receive) -> bytes:
        """The body of a request.

        raises   RefusedError if it is no JSON, too long or too slow; DisconnectedError if it breaks off
        """
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise RefusedError(400, "send JSON, with the header Content-Type: application/json")
        clock = asyncio.get_running_loop().time
        parts: list[bytes] = []
        size, waited, more = 0, 0.0, True
        while more and size <= DRAINED * self.longest:
            await self.buffer.room_to_read(request)
            began = clock()
            try:
                message = await asyncio.wait_for(receive(), min(PATIENCE, SILENCE + size / RATE) - waited)
            except TimeoutError:
                raise RefusedError(
                    408, f"the request came too slowly; send it within {PATIENCE:.0f} seconds, at {RATE >> 10} KiB/s"
                ) from None
            waited += clock() - began
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            part = message.get("body", b"")
            size, more = size + len(part), message.get("more_body", False)
            parts.append(part)
            if size > self.longest:
                parts.clear()
            self.buffer.hold(request, Stage.ARRIVING, size if parts else 0)
        if size > self.longest:
            raise RefusedError(400, f"the request is longer than {self.longest >> 20} MiB")
        body = b"".join(parts)
        self.buffer.hold(request, Stage.WAITING, size)
        if sum(body.count(sign) for sign in (b"[", b"{", b",")) > STRUCTURE:
            raise RefusedError(400, 'the request is no plain {"dataframe_records": [{"image": "…"}]}')
        return body

    async def _computed(self, scope: Message, pieces: list[bytes], receive: Receive) -> "Reply | None":
        """What the application answers; None if its client has left, which ends the computation."""
        limit, reply = Limit(self.seconds), Reply()
        left = asyncio.create_task(_left(receive))
        computing = asyncio.create_task(self._compute(scope, pieces, left, limit, reply))
        try:
            await asyncio.wait({left, computing}, return_when=asyncio.FIRST_COMPLETED)
            if computing.done():
                computing.result()
                return reply.shortened()
            limit.left.set()
            if limit.ends is None:  # it waits for its turn
                computing.cancel()
            await asyncio.wait({computing})
            if not computing.cancelled():
                computing.result()
            return None
        finally:
            limit.left.set()
            left.cancel()

    async def _compute(
        self, scope: Message, pieces: list[bytes], left: "asyncio.Task[None]", limit: Limit, reply: "Reply"
    ) -> None:
        async with self.turn:
            await self.buffer.room_to_answer()
            limit.begin()
            CURRENT.set(limit)
            await self.app(scope, _replayed(pieces, left), reply)


def _hostname(text: str) -> str:
    """Of an origin, or of //HOST:PORT; empty if it is neither."""
    try:
        parts = urlsplit(text)
        plain = (parts.port is None or parts.port) and not (parts.path or parts.query or parts.fragment)
        return (parts.hostname or "") if plain and "@" not in parts.netloc else ""
    except ValueError:  # also of a port that is no number
        return ""


async def _left(receive: Receive) -> None:
    """Waits until the client has left; its body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _replayed(pieces: list[bytes], left: "asyncio.Task[None]") -> Receive:
    """The body, which is then held here no longer; after it, that the client has left."""

    async def again() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": False}
        await asyncio.wait({left})
        return {"type": "http.disconnect"}

    return again


class Reply:
    """Takes what an application sends; of an error only its code and one line."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 0, [(b"content-type", b"application/json")], b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", []))
        else:
            self.body += message.get("body", b"")

    def shortened(self) -> "Reply":
        """Of an error one line. MLflow says 500 where the request does not fit the model's signature."""
        if self.status < 400:
            return self
        text, code = self.body.decode(errors="replace"), "INTERNAL_ERROR" if self.status >= 500 else "BAD_REQUEST"
        try:
            answer = json.loads(text)
            text, code = str(answer["message"]), str(answer["error_code"])
        except (ValueError, KeyError, TypeError):
            pass
        line = " ".join(text.split())
        if "Failed to enforce schema" in line:
            line = 'the request has no text in its column "image", or other columns'
            self.status, code = 400, "BAD_REQUEST"
        return self.say(self.status, code, line if len(line) <= LINE else f"{line[: LINE - 1]}…")

    def say(self, status: int, code: str, line: str) -> "Reply":
        self.status, self.headers = status, [(b"content-type", b"application/json")]
        self.body = json.dumps({"error_code": code, "message": line}).encode() + b"\n"
        return self

    async def send(self, send: Send) -> None:
        """Returns when the client has read it. What was not read of its request may still be on the way: so the
        connection cannot serve another one."""
        headers = [pair for pair in self.headers if pair[0].lower() not in (b"content-length", b"connection")]
        headers += [(b"content-length", str(len(self.body)).encode()), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})  # which waits for the one before
