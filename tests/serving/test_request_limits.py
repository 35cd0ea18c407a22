"""Limits of the server: accepted hosts and paths, time limits for reading and computing, memory."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
from conftest import Checkout
from mlflow import MlflowClient
from model_files import META, in_base64, noise, slim_net
from PIL import Image
from servers import Server, serving

from fcn.datasets.label_maps import SCENES
from fcn.runtime.errors import UserError
from fcn.serving import buffer, request_limits, response, stopping
from fcn.serving.buffer import Stage
from fcn.weights import model_file

HEAD = {"host": "localhost:5001", "content-type": "application/json"}


# RequestLimits without a server


class Client:
    """One request to RequestLimits: the messages that it sends and receives.

    parts   chunks of the body; None: nothing more arrives
    """

    def __init__(self, *parts: bytes | None, path: str = "/invocations", **headers: str) -> None:
        self.parts, self.sent = list(parts), asyncio.Queue[dict[str, Any]]()
        self.leaves, self.reads = asyncio.Event(), asyncio.Event()
        self.reads.set()
        pairs = [(name.encode(), value.encode()) for name, value in (HEAD | headers).items() if value]
        self.scope = {"type": "http", "path": path, "method": "POST", "headers": pairs}

    async def receive(self) -> dict[str, Any]:
        if self.parts and self.parts[0] is not None:
            return {"type": "http.request", "body": self.parts.pop(0), "more_body": bool(self.parts)}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        await self.sent.put(message)

    async def status(self) -> int:
        return int((await self.sent.get())["status"])

    async def line(self) -> str:
        return str(json.loads((await self.sent.get())["body"])["message"])


async def say_yes(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"yes"})


async def asked(ours: request_limits.RequestLimits, client: Client) -> tuple[int, str]:
    """The status, and the error message if the request was rejected."""
    await ours(client.scope, client.receive, client.send)
    status = await client.status()
    return status, "" if status == 200 else await client.line()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1"}, 200),
        ({"host": "LOCALHOST:80"}, 200),
        ({"host": "[::1]:5001"}, 200),
        ({"host": "example.org"}, 200),
        ({"host": "localhost:5001", "origin": "https://example.org"}, 200),
        ({"host": ""}, 403),
        ({"host": "evil.org:5001"}, 403),
        ({"host": "localhost.evil.org"}, 403),
        ({"host": "localhost@evil.org"}, 403),
        ({"host": "evil.org@localhost"}, 403),
        ({"host": "localhost:evil"}, 403),
        ({"host": "localhost/evil.org"}, 403),
        ({"host": "[localhost"}, 403),
        ({"origin": "http://evil.org"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost.evil.org"}, 403),
    ],
)
def test_a_host_or_origin_that_nobody_allowed_is_refused(headers: dict[str, str], status: int) -> None:
    async def run() -> None:
        ours = request_limits.RequestLimits(say_yes, 1000, 60, ["Example.org"])
        for path in ("/invocations", "/ping"):
            got, line = await asked(ours, Client(b"{}", path=path, **headers))
            assert got == status
            assert ("fcn serve --allow-host" in line or "one header Host" in line) == (status == 403)

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/", "/docs/oauth2-redirect", "/invocations/"])
def test_there_is_nothing_at_other_paths(path: str) -> None:
    status, line = asyncio.run(asked(request_limits.RequestLimits(say_yes, 1000, 60), Client(b"{}", path=path)))
    assert (status, line.split(";")[0]) == (404, "there is no such path")


def test_a_body_that_comes_too_slowly_is_refused_and_held_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "RATE_GRACE", 0.2)

    async def run() -> None:
        ours = request_limits.RequestLimits(say_yes, 1000, 60)
        slow = [Client(b"{", None) for _ in range(20)]
        refused = [asyncio.create_task(asked(ours, client)) for client in slow]
        await asyncio.sleep(0)
        assert await asked(ours, Client(b"{}")) == (200, "")
        assert not any(task.done() for task in refused)
        for status, line in await asyncio.gather(*refused):
            assert (status, line.split(";")[0]) == (408, "the request came too slowly")
        assert not any(ours.buffer.sizes.values())

    asyncio.run(run())


def test_a_body_that_breaks_off_gets_no_answer() -> None:
    async def run() -> None:
        ours, client = request_limits.RequestLimits(say_yes, 1000, 60), Client(b"{", None)
        client.leaves.set()
        await ours(client.scope, client.receive, client.send)
        assert client.sent.empty()
        assert not any(ours.buffer.sizes.values())

    asyncio.run(run())


def computing(began: threading.Event) -> Callable[..., Any]:
    """An application that computes in a thread until its limit stops it."""

    def work() -> str:
        began.set()
        try:
            while True:
                stopping.check()
                time.sleep(0.01)
        except stopping.StoppedError as stopped:
            return str(stopped)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        content = {"error_code": "DEADLINE_EXCEEDED", "message": await asyncio.to_thread(work)}
        await send({"type": "http.response.start", "status": 504, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})

    return app


def test_a_request_that_computes_too_long_is_ended_with_a_line() -> None:
    status, line = asyncio.run(
        asked(request_limits.RequestLimits(computing(threading.Event()), 1000, 0.2), Client(b"{}"))
    )
    assert (status, line) == (504, "the request took more than 0.2 seconds; send fewer or smaller images")


def test_the_computation_of_a_client_that_left_ends_and_who_waited_and_left_is_never_computed() -> None:
    async def run() -> None:
        began, let_in = threading.Event(), []
        app = computing(began)

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            let_in.append(scope)
            await (app if len(let_in) == 1 else say_yes)(scope, receive, send)

        ours = request_limits.RequestLimits(counted, 1000, 3600)
        first, second, third = Client(b"{}"), Client(b"{}"), Client(b"{}")
        tasks = [asyncio.create_task(ours(c.scope, c.receive, c.send)) for c in (first, second, third)]
        await asyncio.to_thread(began.wait)
        second.leaves.set()
        await tasks[1]
        first.leaves.set()
        await asyncio.gather(*tasks)
        assert first.sent.empty()
        assert second.sent.empty()
        assert await third.status() == 200
        assert len(let_in) == 2
        assert not any(ours.buffer.sizes.values())

    asyncio.run(run())


def test_an_answer_that_is_not_read_holds_no_turn() -> None:
    async def run() -> None:
        ours, deaf = request_limits.RequestLimits(say_yes, 1000, 60), Client(b"{}")
        deaf.reads.clear()
        waiting = asyncio.create_task(asked(ours, deaf))
        while not ours.buffer.sizes[Stage.SENDING]:
            await asyncio.sleep(0.01)
        assert await asked(ours, Client(b"{}")) == (200, "")
        assert not waiting.done()
        deaf.reads.set()
        assert await waiting == (200, "")

    asyncio.run(run())


def test_bodies_of_many_clients_are_held_within_the_bound_and_all_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """40 bodies of 1000 bytes in chunks of 100; at most 3000 bytes, one more body and a chunk each may be held."""
    peak = 0
    hold = buffer.Buffer.hold

    def watched(self: buffer.Buffer, request: object, stage: Stage, size: int) -> None:
        nonlocal peak
        hold(self, request, stage, size)
        peak = max(peak, sum(sum(sizes.values()) for sizes in self.sizes.values()))

    monkeypatch.setattr(buffer.Buffer, "hold", watched)

    async def run() -> None:
        ours = request_limits.RequestLimits(say_yes, 1000, 60)
        clients = [Client(*[b"a" * 100] * 10) for _ in range(40)]
        assert await asyncio.gather(*(asked(ours, client) for client in clients)) == [(200, "")] * 40
        assert not any(ours.buffer.sizes.values())

    asyncio.run(run())
    assert 3000 <= peak <= 3000 + 1000 + 40 * 100


# The computation


def test_an_image_of_many_padded_tiles_is_refused_before_it_is_computed() -> None:
    thin = in_base64(Image.new("L", (1, 1_500_000)))
    assert len(thin) < 4000
    with pytest.raises(UserError, match=r"^image 0 is too long \(1x1500000\); the tiles of a request may have"):
        response.segment(slim_net(), [SCENES], [{"image": thin}])


def test_a_computation_ends_between_two_tiles() -> None:
    ours, limit, seen = slim_net(), stopping.Limit(3600), []

    def leave(*_: object) -> None:
        seen.append("a tile")
        limit.disconnected.set()

    ours.register_forward_hook(leave)
    token = stopping.CURRENT.set(limit)
    try:
        with pytest.raises(stopping.StoppedError, match="the client has disconnected"):
            response.segment(ours, [SCENES], [{"image": in_base64(noise(*size))} for size in ((1300, 40), (9, 9))])
    finally:
        stopping.CURRENT.reset(token)
    assert len(seen) == 1


# The real server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with a registered net."""
    checkout = Checkout(tmp_path_factory.mktemp("served"))
    model_file.save(checkout.folder / "data/weights/fcn8s.safetensors", slim_net().state_dict(), META)
    checkout.run("fcn", "register")
    return checkout


@pytest.fixture(scope="module")
def server(served: Checkout) -> Iterator[Server]:
    with serving(served) as running:
        yield running


REQUEST = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.slow
def test_slow_clients_are_sent_away_while_others_are_answered(server: Server) -> None:
    bodies = [server.connect(REQUEST + b"Content-Length: 100000\r\n\r\n{") for _ in range(20)]
    heads = [server.connect(REQUEST) for _ in range(20)]
    assert server.ask(noise(30, 20)).status_code == 200
    for connection in (*bodies, *heads):
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # the server still waits for all of them
            connection.recv(1)
        connection.settimeout(60)
    assert {connection.recv(12) for connection in bodies} == {b"HTTP/1.1 408"}
    for connection in heads:
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    for connection in (*bodies, *heads):
        connection.close()
    assert server.log.read_text() == ""


@pytest.mark.slow
def test_noise_behind_a_request_leaves_no_word_in_the_log(server: Server) -> None:
    connection = server.connect(REQUEST.replace(b"application/json", b"text/csv") + b"Content-Length: 1\r\n\r\n")
    assert connection.recv(12) == b"HTTP/1.1 400"
    with suppress(OSError):
        connection.sendall(b"a\0\0 no HTTP\r\n\r\n")
    connection.close()
    broken = REQUEST.replace(b"application/json", b"text/csv") + b"Transfer-Encoding: chunked\r\n\r\nno number\r\n"
    connection = server.connect(broken)
    assert connection.recv(12) == b"HTTP/1.1 400"
    connection.close()
    assert server.ask(noise(9, 9)).status_code == 200
    assert server.log.read_text() == ""


@pytest.mark.slow
def test_the_server_computes_no_further_for_a_client_that_left(server: Server) -> None:
    """4000x4000 pixels take about 80 tiles, far longer than the timeout of the next request."""
    body = json.dumps({"dataframe_records": [{"image": in_base64(Image.new("RGB", (4000, 4000)))}]}).encode()
    gone = server.connect(REQUEST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    time.sleep(2)
    gone.close()
    assert server.ask(noise(30, 20)).status_code == 200
    assert server.log.read_text() == ""


@pytest.mark.slow
def test_pages_of_other_names_and_the_servers_own_pages_get_nothing(server: Server) -> None:
    assert server.ask(noise(9, 9), Host="evil.org").status_code == 403
    assert server.ask(noise(9, 9), Origin="http://evil.org").status_code == 403
    assert server.ask(noise(9, 9), Host=f"localhost:{server.port}").status_code == 200
    for path in ("docs", "redoc", "openapi.json"):
        assert requests.get(f"http://127.0.0.1:{server.port}/{path}", timeout=60).status_code == 404
    for path in ("ping", "health", "version"):
        assert requests.get(f"http://127.0.0.1:{server.port}/{path}", timeout=60).status_code == 200


@pytest.mark.slow
def test_hosts_and_time_are_what_the_command_line_says(served: Checkout) -> None:
    with serving(served, "--seconds", "0.000001", "--allow-host", "fcn.example.org") as running:
        answer = running.ask(noise(9, 9), Host="fcn.example.org", Origin="https://fcn.example.org")
        assert answer.status_code == 504
        assert answer.json()["message"].startswith("the request took more than 1e-06 seconds")


@pytest.mark.slow
def test_stored_files_that_have_changed_are_not_run_and_registered_anew(served: Checkout) -> None:
    client = MlflowClient(f"sqlite:///{served.folder}/mlflow.db")
    source = client.get_model_version_by_alias("fcn", "champion").source
    folder = served.folder / "mlartifacts/models" / source.rpartition("/")[2] / "artifacts"
    fcn = [sys.executable, "-m", "fcn"]
    for name in ("MLmodel", "pyfunc.py", "artifacts/fcn8s.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        printed = served.run(*fcn, "serve", "--port", "0", code=1)
        assert "are not those that were registered; run `fcn register` again" in printed
        assert "Traceback" not in printed
        if name != "artifacts/fcn8s.safetensors":
            (folder / name).write_bytes(content)
    assert "is registered as version 2" in served.run(*fcn, "register")
    with serving(served) as running:
        assert running.ask(noise(9, 9)).status_code == 200
