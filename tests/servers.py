"""The real server, for tests."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from conftest import Checkout
from model_files import in_base64
from PIL import Image


@dataclass
class Server:
    """A running server: its port, its log and the line that it printed."""

    port: int
    log: Path
    line: str

    def ask(self, image: Image.Image, **headers: str) -> requests.Response:
        return self.post({"image": in_base64(image)}, **headers)

    def post(self, record: dict[str, Any], **headers: str) -> requests.Response:
        body = {"dataframe_records": [record]}
        return requests.post(f"http://127.0.0.1:{self.port}/invocations", json=body, headers=headers, timeout=120)

    def connect(self, content: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(content)
        return connection


@contextmanager
def serving(checkout: Checkout, *words: str) -> Iterator[Server]:
    """`fcn serve` in a checkout, on a free port."""
    log = checkout.folder / "server.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-m", "fcn", "serve", "--port", "0", *words],
            cwd=checkout.folder,
            env=checkout.environment(),
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        ) as server,
    ):
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line, log.read_text()
            yield Server(int(line.split("/invocations")[0].rpartition(":")[2]), log, line)
        finally:
            server.terminate()
