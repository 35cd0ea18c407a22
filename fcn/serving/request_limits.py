"""ASGI middleware in front of MLflow's scoring server, which by itself accepts requests of any size from any host.

It reads request bodies with limits on size, speed and memory, and passes them on one at a time. Errors, its own and
the server's, are reduced to one line.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterator, MutableMapping, Sequence
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
BUFFER_FACTOR = 3  # memory for all bodies and responses, as a multiple of the longest request
RATE_GRACE = 10.0  # seconds before the minimum rate applies
MIN_RATE = 64 << 10  # bytes per second
BODY_TIMEOUT = 120.0  # seconds for a whole body
MAX_STRUCTURE = 200  # brackets and commas in the JSON; base64 has none, so this stops JSON bombs
DRAIN_FACTOR = 8  # multiple of the longest request that is read and dropped: a client reads no reply while it sends
MAX_MESSAGE = 300  # characters of an error message
CODES = {400: "BAD_REQUEST", 403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND", 408: "DEADLINE_EXCEEDED"}


class RefusedError(Exception):
    """A rejected request, with its HTTP status and a message of one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


class DisconnectedError(Exception):
    """The client closed the connection before its request was complete."""


class RequestLimits:
    """An ASGI application that wraps another.

    max_length   bytes of a request body
    seconds      computing time limit of a request
    hosts        accepted host names, in addition to those of the loopback
    columns      what each record has, of which MLflow ignores all others; empty: not checked
    """

    def __init__(
        self, app: App, max_length: int, seconds: float, hosts: Collection[str] = (), columns: Sequence[str] = ()
    ) -> None:
        self.app, self.max_length, self.seconds, self.columns = app, max_length, seconds, columns
        self.hosts = {host.lower() for host in (*LOOPBACK, *hosts)}
        self.lock = asyncio.Lock()  # held while a request is computed
        self.buffer = Buffer(BUFFER_FACTOR * max_length)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        request = object()
        try:
            if reply := await self._reply(request, scope, receive, send):
                self.buffer.hold(request, Stage.SENDING, len(reply.body))
                await reply.send(send)
        finally:
            self.buffer.drop(request)

    async def _reply(self, request: object, scope: Message, receive: Receive, send: Send) -> "Reply | None":
        """The reply to send; None if the application has already sent it, or the client has disconnected."""
        try:
            self._check_headers(scope)
            if scope["path"] != "/invocations" or scope["method"] != "POST":
                await self.app(scope, receive, send)
                return None
            self.buffer.hold(request, Stage.ARRIVING, 0)
            return await self._forward(scope, [await self._read(request, scope, receive)], receive)
        except RefusedError as refused:
            return Reply().set_error(refused.status, CODES[refused.status], refused.line)
        except DisconnectedError:
            return None

    def _check_headers(self, scope: Message) -> None:
        """Checks Host, Origin and path. It prevents DNS rebinding: another site's page must not use this server.

        raises   RefusedError
        """
        hosts, origins = (
            [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
            for wanted in (b"host", b"origin")
        )
        for text in (*(f"//{host}" for host in hosts), *origins):
            if _hostname(text) not in self.hosts:
                line = f"{text.removeprefix('//')[:100]!r} is refused; `fcn serve --allow-host` adds a name"
                raise RefusedError(403, line)
        if len(hosts) != 1:
            raise RefusedError(403, "the request needs one header Host")
        if scope["path"] not in PATHS:
            raise RefusedError(404, f"there is no such path; use {', '.join(PATHS)}")

    async def _read(self, request: object, scope: Message, receive: Receive) -> bytes:
        """The body of a request.

        raises   RefusedError if it is not JSON, too long or too slow; DisconnectedError if the client disconnects
        """
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise RefusedError(400, "send JSON, with the header Content-Type: application/json")
        clock = asyncio.get_running_loop().time
        parts: list[bytes] = []
        size, waited, more = 0, 0.0, True
        while more and size <= DRAIN_FACTOR * self.max_length:
            await self.buffer.room_to_read(request)
            start = clock()
            try:
                timeout = min(BODY_TIMEOUT, RATE_GRACE + size / MIN_RATE)
                message = await asyncio.wait_for(receive(), timeout - waited)
            except TimeoutError:
                raise RefusedError(
                    408,
                    f"the request came too slowly; send it within {BODY_TIMEOUT:.0f} seconds, "
                    f"at {MIN_RATE >> 10} KiB/s",
                ) from None
            waited += clock() - start
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            part = message.get("body", b"")
            size, more = size + len(part), message.get("more_body", False)
            parts.append(part)
            if size > self.max_length:
                parts.clear()
            self.buffer.hold(request, Stage.ARRIVING, size if parts else 0)
        if size > self.max_length:
            raise RefusedError(400, f"the request is longer than {self.max_length >> 20} MiB")
        body = b"".join(parts)
        self.buffer.hold(request, Stage.WAITING, size)
        if sum(body.count(sign) for sign in (b"[", b"{", b",")) > MAX_STRUCTURE:
            record = ", ".join(f'"{column}": "…"' for column in self.columns or ("image",))
            raise RefusedError(400, f'the request is not of the form {{"dataframe_records": [{{{record}}}]}}')
        return body

    async def _forward(self, scope: Message, body: list[bytes], receive: Receive) -> "Reply | None":
        """The application's reply; None if the client disconnects, which stops the computation."""
        limit, reply = Limit(self.seconds), Reply()
        disconnected = asyncio.create_task(_disconnected(receive))
        computing = asyncio.create_task(self._compute(scope, body, disconnected, limit, reply))
        try:
            await asyncio.wait({disconnected, computing}, return_when=asyncio.FIRST_COMPLETED)
            if computing.done():
                computing.result()
                return reply.shortened()
            limit.disconnected.set()
            if limit.deadline is None:  # the computation has not started
                computing.cancel()
            await asyncio.wait({computing})
            if not computing.cancelled():
                computing.result()
            return None
        finally:
            limit.disconnected.set()
            disconnected.cancel()

    async def _compute(
        self, scope: Message, body: list[bytes], disconnected: "asyncio.Task[None]", limit: Limit, reply: "Reply"
    ) -> None:
        async with self.lock:
            await self.buffer.room_to_answer()
            check_columns(body[0], self.columns)
            limit.start()
            CURRENT.set(limit)
            await self.app(scope, _replay(body, disconnected), reply)


def check_columns(body: bytes, columns: Sequence[str]) -> None:
    """Checks the names in a request: Python's JSON takes the last of equal ones, and MLflow ignores unknown ones.

    raises   RefusedError if one is missing, superfluous or duplicated; anything else that is wrong is left to MLflow
    """
    try:
        content = json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return
    for found in _names(content) if columns else ():
        takes = f"this net takes {' and '.join(columns)}"
        if more := [name for name in found if name not in columns]:
            raise RefusedError(400, f"a record has {str(more[0])[:100]!r}; {takes}")
        if missing := [name for name in columns if name not in found]:
            raise RefusedError(400, f"a record has no {missing[0]}; {takes}")
        if len(found) > len(columns):
            raise RefusedError(400, f"a column is given twice; {takes}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names differ."""
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise RefusedError(400, f"{name[:100]!r} is given twice")
        names.add(name)
    return dict(pairs)


def _names(content: object) -> Iterator[list[Any]]:
    """The names of each record, or of all together, in the forms of a request that MLflow reads."""
    forms = content if isinstance(content, dict) else {}
    for value in (forms.get(form) for form in ("dataframe_records", "instances", "inputs")):
        if isinstance(value, dict):
            yield list(value)
        elif isinstance(value, list):
            yield from (list(record) for record in value if isinstance(record, dict))
    split = forms.get("dataframe_split")
    if isinstance(split, dict) and isinstance(split.get("columns"), list):
        yield split["columns"]


def _hostname(text: str) -> str:
    """The host name of an origin or of //HOST:PORT; empty if the text is neither."""
    try:
        parts = urlsplit(text)
        plain = (parts.port is None or parts.port) and not (parts.path or parts.query or parts.fragment)
        return (parts.hostname or "") if plain and "@" not in parts.netloc else ""
    except ValueError:  # for example, the port is not a number
        return ""


async def _disconnected(receive: Receive) -> None:
    """Waits until the client disconnects, after its body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _replay(body: list[bytes], disconnected: "asyncio.Task[None]") -> Receive:
    """A `receive` that returns the body, then waits for the disconnect.

    The body is popped from its list, so that only the application holds it.
    """

    async def receive() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await asyncio.wait({disconnected})
        return {"type": "http.disconnect"}

    return receive


class Reply:
    """Collects an application's response. An error is reduced to its code and one line."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 0, [(b"content-type", b"application/json")], b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", []))
        else:
            self.body += message.get("body", b"")

    def shortened(self) -> "Reply":
        """Reduces an error to one line. A request that does not fit the model's signature gets 400 instead of 500."""
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
            line = "each file of the request must be a string in base64"
            self.status, code = 400, "BAD_REQUEST"
        return self.set_error(self.status, code, line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 1]}…")

    def set_error(self, status: int, code: str, line: str) -> "Reply":
        self.status, self.headers = status, [(b"content-type", b"application/json")]
        self.body = json.dumps({"error_code": code, "message": line}).encode() + b"\n"
        return self

    async def send(self, send: Send) -> None:
        """Sends the reply, and returns when the client has read it.

        The connection is closed, because the rest of a rejected request may still arrive on it.
        """
        headers = [pair for pair in self.headers if pair[0].lower() not in (b"content-length", b"connection")]
        headers += [(b"content-length", str(len(self.body)).encode()), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})  # waits until the body is sent
