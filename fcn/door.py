"""What stands before MLflow's scoring server, which reads requests of any size and answers errors at length.

Requests for a prediction are let in a few at a time, and read no further than they may be long; what
is refused, here or behind, is told in one line.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fcn.errors import UserError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

INSIDE = 3  # requests read or computed at once; the rest wait unread
PATIENCE = 60.0  # seconds for a request to arrive
STRUCTURE = 200  # brackets and commas of the JSON around base64 text, which has none: no room for a bomb
DRAINED = 8  # times the longest, read and dropped: a client that still sends does not hear the answer
LINE = 300  # characters of what an error says


class Door:
    """An ASGI application around another.

    longest   bytes that a request may have
    """

    def __init__(self, app: App, longest: int) -> None:
        self.app, self.longest = app, longest
        self.places = asyncio.Semaphore(INSIDE)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/invocations" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        async with self.places:
            try:
                pieces = [await asyncio.wait_for(self._read(scope, receive), PATIENCE)]
            except UserError as refusal:
                await _answer(send, 400, {"error_code": "BAD_REQUEST", "message": str(refusal)})
            except TimeoutError:
                message = f"the request did not arrive within {PATIENCE:.0f} seconds"
                await _answer(send, 400, {"error_code": "BAD_REQUEST", "message": message})
            else:
                await self.app(scope, _replayed(pieces, receive), _Shortened(send))

    async def _read(self, scope: Message, receive: Receive) -> bytes:
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise UserError("send JSON, with the header Content-Type: application/json")
        parts, size, more = [], 0, True
        while more and size <= DRAINED * self.longest:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise UserError("the request ended early")
            part = message.get("body", b"")
            size, more = size + len(part), message.get("more_body", False)
            if size <= self.longest:
                parts.append(part)
            else:
                parts.clear()
        if size > self.longest:
            raise UserError(f"the request is longer than {self.longest >> 20} MiB")
        body = b"".join(parts)
        if sum(body.count(sign) for sign in (b"[", b"{", b",")) > STRUCTURE:
            raise UserError('the request is no plain {"dataframe_records": [{"image": "…"}]}')
        return body


def _replayed(pieces: list[bytes], receive: Receive) -> Receive:
    """The body, which is then held here no longer; after it, whatever the client sends."""

    async def again() -> Message:
        return {"type": "http.request", "body": pieces.pop(), "more_body": False} if pieces else await receive()

    return again


class _Shortened:
    """Passes an answer on; of an error's only its code and one line."""

    def __init__(self, send: Send) -> None:
        self.send, self.status, self.parts = send, 0, b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self.status = message["status"]
        elif not self.status:
            await self.send(message)
        else:
            self.parts += message.get("body", b"")
            if not message.get("more_body", False):
                await _answer(self.send, *_line(self.status, self.parts))


def _line(status: int, body: bytes) -> tuple[int, dict[str, str]]:
    """Status and content of an error. MLflow says 500 where the request does not fit the model's signature."""
    text, code = body.decode(errors="replace"), "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"
    try:
        answer = json.loads(text)
        text, code = str(answer["message"]), str(answer["error_code"])
    except (ValueError, KeyError, TypeError):
        pass
    line = " ".join(text.split())
    if "Failed to enforce schema" in line:
        status, code, line = 400, "BAD_REQUEST", 'the request has no text in its column "image", or other columns'
    return status, {"error_code": code, "message": line if len(line) <= LINE else f"{line[: LINE - 1]}…"}


async def _answer(send: Send, status: int, content: dict[str, str]) -> None:
    body = json.dumps(content).encode() + b"\n"
    # What was not read of the request is still on its way: the connection cannot be used for another.
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
