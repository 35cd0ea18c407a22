"""Damaged, slow and abandoned HTTP requests at `fcn serve`, from many clients, while an honest one is answered.

`make http SECONDS_EACH=600 SEED=1`. A finding is: a status that is not documented, an error of several lines, a
wrong or missing answer for the honest client, a word in the server's log, more than --memory MB, connections that
stay open, a server that has ended. The exit status says whether there was one.
"""

import argparse
import base64
import io
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fcn.datasets.label_maps import SCENES
from fcn.inference import prediction
from fcn.models import FCN
from fcn.models.layers import TORCHVISION
from fcn.runtime import machine
from fcn.weights import model_file

from .malformed import mutate
from .stamp import stamp
from .targets import ROOT

CLIENTS = 16
STATUSES = {200, 400, 403, 404, 405, 408, 503, 504}
WAIT = 180.0  # seconds for an answer; on two cores a request may stand behind many
OPEN = 90.0  # seconds until a connection whose client does not read is closed
MEMORY = 1500


class Findings:
    """What was wrong, and how often each status came; from many threads."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.statuses: Counter[str] = Counter()

    def add(self, line: str) -> None:
        self.lines.append(line)
        print(f"finding: {line}", flush=True)


@contextmanager
def serving(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", int, FCN]]:
    """A server of a small net that was never trained, its port and the net."""
    torch.manual_seed(1)
    net = FCN(8, 8, "slim", pad="same").eval()
    for name, parameter in net.named_parameters():
        if name.startswith("score"):
            torch.nn.init.normal_(parameter)
    architecture = {"num_classes": 8, "stride": 8, "backbone": "slim", "pad": "same"}
    path = folder / "data/weights/fcn8s.safetensors"
    model_file.save(path, net.state_dict(), model_file.Meta(architecture, TORCHVISION, SCENES, None, None, 1, 1, {}))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
    environment["PYTHONPATH"] = str(ROOT)
    fcn = [sys.executable, "-m", "fcn"]
    subprocess.run([*fcn, "register"], cwd=folder, env=environment, check=True)
    words = [*fcn, "serve", "--port", "0", "--seconds", "20"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            found = re.search(r":(\d+)/invocations", server.stdout.readline())
            assert found, (folder / "log").read_text()
            yield server, int(found[1]), model_file.build(path)[0]
        finally:
            server.terminate()


def body(image: Image.Image, kind: str = "png") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return json.dumps({"dataframe_records": [{"image": base64.b64encode(file.getvalue()).decode()}]}).encode()


def bodies(rng: random.Random) -> bytes:
    """A body: sound, of a strange size, or damaged as a text or as a picture."""
    sides = (1, 2, 31, 32, 33, 97, 300, 1025)
    width, height = rng.choice(sides), rng.choice((*sides, 2_000_000))
    if width * height > 2_000_000:
        height = 50
    picture = Image.frombytes("L", (width, 1), rng.randbytes(width)).resize((width, height))
    whole = body(picture, rng.choice(("png", "jpeg")) if height < 60_000 else "png")
    if rng.random() < 0.3:
        return whole
    if rng.random() < 0.5:
        return mutate(whole, rng, [whole])
    text = json.loads(whole)["dataframe_records"][0]["image"]
    broken = mutate(base64.b64decode(text), rng, [b"\0" * 300])
    return json.dumps(
        {"dataframe_records": [{"image": base64.b64encode(broken).decode()}] * rng.choice((1, 1, 70))}
    ).encode()


def heads(rng: random.Random, length: int) -> bytes:
    """Line and headers of a request, most of them sound."""
    lines = [
        rng.choice(
            ["POST /invocations HTTP/1.1"] * 12 + ["POST /invocations HTTP/1.0", "GET /ping HTTP/1.1", "X / HTTP/9"]
        ),
        rng.choice(["Host: localhost"] * 12 + ["Host: evil.org", "Host: localhost\r\nHost: evil.org", "X: y"]),
        rng.choice(
            ["Content-Type: application/json"] * 12 + ["Content-Type: text/csv", "Origin: null", "Expect: 100-continue"]
        ),
        rng.choice(
            [f"Content-Length: {length}"] * 12
            + [f"Content-Length: {length + 9}", f"Content-Length: {length // 2}", "Content-Length: -1"]
            + ["Transfer-Encoding: chunked", "Content-Length: 99999999999", "Connection: Upgrade\r\nUpgrade: websocket"]
        ),
        *rng.choice([[]] * 12 + [[f"X-{i}: {'y' * 500}" for i in range(rng.choice((5, 500)))]]),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def send(connection: socket.socket, content: bytes, rng: random.Random) -> None:
    """At once, in pieces, slowly, or not to the end."""
    way = rng.choice(("at once", "at once", "pieces", "slowly", "half"))
    if way == "half":
        content = content[: rng.randrange(len(content) + 1)]
    if way in ("at once", "half"):
        connection.sendall(content)
        return
    cuts = sorted(rng.randrange(len(content) + 1) for _ in range(8))
    for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True):
        connection.sendall(content[start:stop])
        time.sleep(rng.random() * (3 if way == "slowly" else 0.05))


def attack(port: int, rng: random.Random, ends: float, findings: Findings) -> None:
    """One client after the other, until the time is over."""
    while time.monotonic() < ends:
        content = bodies(rng)
        request = heads(rng, len(content)) + content
        if rng.random() < 0.2:
            request = mutate(request, rng, [request])
        if rng.random() < 0.1:
            request *= 2  # pipelined
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
                with suppress(BrokenPipeError, ConnectionResetError):  # refused while it was sent
                    send(connection, request, rng)
                after = rng.choice(("read", "read", "read", "close", "half close", "wait"))
                if after == "wait":
                    time.sleep(rng.random() * 5)
                if after == "half close":
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)
                if after != "close":
                    judge(read(connection), findings)
        except ConnectionRefusedError:
            findings.add("the server does not listen any more")
            return
        except TimeoutError:
            findings.add(f"a connection was open after {WAIT:.0f} s: {request[:200]!r}")


def read(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    found = b""
    with suppress(ConnectionResetError):
        while (part := connection.recv(1 << 16)) and len(found) < 10 << 20:
            found += part
    return found


def judge(answer: bytes, findings: Findings) -> None:
    head, _, content = answer.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        head, _, content = content.partition(b"\r\n\r\n")
    if not head:
        findings.statuses["closed"] += 1
        return
    status = int(head.split()[1])
    findings.statuses[str(status)] += 1
    if status not in STATUSES:
        findings.add(f"status {status}: {answer[:300]!r}")
    elif b"Traceback" in answer or (b"application/json" in head and status != 200 and content.count(b"\n") > 1):
        findings.add(f"several lines: {answer[:500]!r}")


def honest(port: int, net: FCN, ends: float, findings: Findings) -> None:
    """A good image every second: it gets the mask of the net."""
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3)).astype(np.uint8))
    expected = prediction.predict(net, image)[0].mask
    content = body(image)
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    while time.monotonic() < ends:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
                connection.sendall(f"POST /invocations HTTP/1.1\r\n{head}".encode() + content)
                answer = read(connection)
            (found,) = json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"]
            mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["mask"]))))
            findings.statuses["honest"] += 1
            if not np.array_equal(mask, expected):
                findings.add("another mask for the honest client")
        except (OSError, ValueError, KeyError) as error:
            findings.add(f"no answer for the honest client ({error!r})")
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory", type=int, default=MEMORY, metavar="MB", help="that the server may take")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "http.json")
    arguments = parser.parse_args()
    machine.prepare()
    findings, folder = Findings(), Path(tempfile.mkdtemp(prefix="fcn-http-"))
    try:
        with serving(folder) as (server, port, net):
            process = Path(f"/proc/{server.pid}")
            before = len(list((process / "fd").iterdir()))
            ends = time.monotonic() + arguments.seconds
            threads = [threading.Thread(target=honest, args=(port, net, ends, findings))]
            for i in range(CLIENTS):
                rng = random.Random(f"{arguments.seed} {i}")
                threads.append(threading.Thread(target=attack, args=(port, rng, ends, findings)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if server.poll() is not None:
                findings.add(f"the server ended with {server.returncode}")
                peak = 0
            else:
                deadline = time.monotonic() + OPEN
                while (
                    left := len(list((process / "fd").iterdir())) - before
                ) > CLIENTS and time.monotonic() < deadline:
                    time.sleep(1)
                if left > CLIENTS:
                    findings.add(f"{left} files are still open")
                peak = int(re.findall(r"VmHWM:\s+(\d+)", (process / "status").read_text())[0]) // 1024
                if peak > arguments.memory:
                    findings.add(f"{peak} MB of memory")
        if log := (folder / "log").read_text():
            findings.add(f"the server's log says {log[:2000]!r}")
    finally:
        shutil.rmtree(folder)
    result: dict[str, Any] = {
        "seconds": arguments.seconds,
        "seed": arguments.seed,
        "answers": dict(sorted(findings.statuses.items())),
        "peak MB": peak,
        "findings": findings.lines,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(stamp("mlflow", "torch") | result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(bool(findings.lines))


if __name__ == "__main__":
    main()
