"""The served model: responses, rejected requests, the registry, and many clients at once."""

import asyncio
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from conftest import ROOT, Checkout
from mlflow import MlflowClient
from model_files import META, in_base64, noise, slim_net
from PIL import Image

from fcn.data.scale import Scale
from fcn.datasets.label_maps import SCENES
from fcn.inference import prediction
from fcn.runtime.errors import UserError
from fcn.serving import request_limits, response
from fcn.weights import model_file

SCALE = Scale(100)


def test_an_answer_is_a_mask_with_its_classes_and_their_shares() -> None:
    ours, image = slim_net(), noise(40, 30)
    (answer,) = response.segment(ours, [SCENES], [{"image": in_base64(image)}])
    mask = Image.open(io.BytesIO(base64.b64decode(answer["mask"])))
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), prediction.predict(ours, image)[0].mask)
    assert answer["classes"] == ["sky", "ground", "road", "building", "tree", "car", "sign", "person"]
    assert answer["shares"] == [(np.asarray(mask) == k).mean() for k in range(8)]


@pytest.mark.parametrize(
    ("images", "line"),
    [
        ([7], "image 0 is not a string; send the file in base64"),
        (["=no="], "image 0 is not valid base64"),
        (["ÄÖ"], "image 0 is not valid base64"),
        ([""], "image 0 cannot be decoded (it is none of PNG"),
        (["A" * (44_739_244 + 4)], "image 0 is larger than 32 MiB"),
        ([in_base64(noise(9, 9)), in_base64(noise(9, 9))[:300]], "image 1 cannot be decoded"),
        (
            [in_base64(Image.new("1", (6000, 6000)))] * 2,
            "image 1 is too large; a request may have at most 64000000 pixels",
        ),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(images: list[object], line: str) -> None:
    with pytest.raises(UserError) as caught:
        response.segment(slim_net(), [SCENES], [{"image": image} for image in images])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def post(
    parts: list[bytes], headers: dict[str, str], inner: int = 200, said: bytes = b""
) -> tuple[int, bytes, list[Any]]:
    """Posts a body in chunks to RequestLimits with 1000 bytes; returns status, response body and forwarded bodies."""
    let_in: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        let_in.append((await receive())["body"])
        await send({"type": "http.response.start", "status": inner, "headers": []})
        await send({"type": "http.response.body", "body": said})

    sent: list[Any] = []
    left = list(parts)

    async def receive() -> dict[str, Any]:
        if not left:  # RequestLimits waits for the client to disconnect
            await asyncio.sleep(60)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in ({"host": "localhost:5001"} | headers).items()]
    scope = {"type": "http", "path": "/invocations", "method": "POST", "headers": pairs}
    asyncio.run(request_limits.RequestLimits(app, 1000, 60)(scope, receive, send))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]), let_in


JSON = {"content-type": "application/json; charset=utf-8"}


def test_a_request_of_the_maximum_length_is_forwarded_whole() -> None:
    assert post([b"a" * 999, b"b"], JSON, said=b"yes") == (200, b"yes", [b"a" * 999 + b"b"])


@pytest.mark.parametrize(
    ("parts", "headers", "line"),
    [
        ([b"a" * 600, b"a" * 401], JSON, "the request is longer than"),
        ([b"a" * 600] * 1000, JSON, "the request is longer than"),
        ([b"a"], {"content-type": "text/csv"}, "send JSON"),
        ([b"a"], {}, "send JSON"),
        ([b"[" * 201], JSON, "the request is not of the form"),
    ],
)
def test_a_rejected_request_gets_one_line(parts: list[bytes], headers: dict[str, str], line: str) -> None:
    status, body, let_in = post(parts, headers)
    assert (status, let_in) == (400, [])
    assert json.loads(body)["message"].startswith(line)
    assert body.count(b"\n") == 1


def test_errors_of_the_application_are_reduced_to_code_and_line() -> None:
    long = {"error_code": "BAD_REQUEST", "message": "one\ntwo " + "x" * 1000, "stack_trace": "Traceback"}
    status, body, _ = post([b"{}"], JSON, 400, json.dumps(long).encode())
    assert status == 400
    assert json.loads(body).keys() == {"error_code", "message"}
    assert json.loads(body)["message"].startswith("one two xxx")
    assert len(json.loads(body)["message"]) == 300
    status, body, _ = post([b"{}"], JSON, 500, b"Internal Server Error")
    assert (status, json.loads(body)["message"]) == (500, "Internal Server Error")


def run(checkout: Checkout, *words: str, **environment: str) -> str:
    return checkout.run(*words, **environment)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with a registered net that was evaluated on resized images."""
    checkout = Checkout(tmp_path_factory.mktemp("served"))
    path = checkout.folder / "data/weights/fcn8s.safetensors"
    model_file.save(path, slim_net().state_dict(), replace(META, scale=SCALE))
    assert "no model is registered" in checkout.run("fcn", "serve", "--port", "0", code=1)
    assert "is registered as version 1 of fcn" in run(checkout, "fcn", "register")
    return checkout


@pytest.mark.slow
def test_the_registry_holds_one_copy_of_the_weights_with_signature_example_and_packages(served: Checkout) -> None:
    assert "was already registered as version 1" in run(served, "fcn", "register")
    (copy,) = (served.folder / "mlartifacts").rglob("*.safetensors")
    artifacts = copy.parent.parent
    assert copy.read_bytes() == (served.folder / "data/weights/fcn8s.safetensors").read_bytes()
    assert "torch==2.14.1\n" in (artifacts / "requirements.txt").read_text() + "\n"
    assert all("==" in line for line in (artifacts / "requirements.txt").read_text().split())
    assert json.loads((artifacts / "serving_input_example.json").read_text())["dataframe_split"]["columns"] == ["image"]
    client = MlflowClient(f"sqlite:///{served.folder}/mlflow.db")
    version = client.get_model_version_by_alias("fcn", "champion")
    digest = subprocess.run(["sha256sum", copy], capture_output=True, text=True, check=True).stdout.split()[0]
    assert version.tags["model.sha256"] == digest
    assert version.tags["model.path"] == "data/weights/fcn8s.safetensors"


@pytest.mark.slow
def test_many_clients_get_the_masks_of_fcn_predict_and_broken_images_a_400(served: Checkout) -> None:
    words = ["--requests", "30", "--clients", "4", "--largest", "800x600", "--memory", "2000"]
    printed = run(served, sys.executable, "-m", "benchmarks.serving", *words)
    assert "30 requests, 12 of them broken" in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_mlflows_own_server_serves_it_too(served: Checkout) -> None:
    """It runs in another folder, with only the code that was registered."""
    elsewhere = served.folder / "elsewhere"
    elsewhere.mkdir()
    command = "mlflow models serve -m models:/fcn@champion --env-manager local --host 127.0.0.1 --port"
    port = free_port()
    environment = served.environment(MLFLOW_TRACKING_URI=f"sqlite:///{served.folder}/mlflow.db")
    environment.pop("PYTHONPATH", None)
    image = noise(30, 20)
    log = served.folder / "server.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [*command.split(), str(port)],
            cwd=elsewhere,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        ) as server,
    ):
        try:
            good = ask(port, in_base64(image), log)
            bad = ask(port, "AAAA", log)
        finally:
            end(server)
    (answer,) = good.json()["predictions"]
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"]))))
    ours, _ = model_file.build(served.folder / "data/weights/fcn8s.safetensors")
    assert np.array_equal(mask, prediction.predict(ours, image, seen=SCALE.target(image.size))[0].mask)
    assert bad.status_code == 400
    assert bad.json()["message"].startswith("image 0 cannot be decoded (it is none of PNG")
    assert len(bad.text) < 300


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(port: int, image: str, log: Path) -> requests.Response:
    """Posts an image; retries until the server is up."""
    deadline = time.monotonic() + 120
    while True:
        try:
            body = {"dataframe_records": [{"image": image}]}
            return requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=60)
        except requests.ConnectionError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)


def end(server: "subprocess.Popen[bytes]") -> None:
    """Terminates the server and its child processes."""
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(30)


@pytest.mark.slow
def test_code_that_changed_since_is_registered_anew(served: Checkout) -> None:
    path = served.folder / "fcn" / "ladder.py"
    original = path.read_text()
    try:
        path.write_text(original + "# changed\n")
        environment = {"PYTHONPATH": str(served.folder)}
        assert "was registered with other code" in served.run(
            sys.executable, "-m", "fcn", "serve", "--port", "0", code=1, **environment
        )
    finally:
        path.write_text(original)
    assert (ROOT / "fcn" / "ladder.py").read_text() == original


@pytest.mark.slow
def test_a_store_out_of_reach_is_one_line(served: Checkout) -> None:
    for words in (["register"], ["serve", "--port", "0"]):
        command = [sys.executable, "-m", "fcn", *words]
        printed = served.run(*command, code=1, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
        (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
        assert line.startswith("error: MLflow's store http://127.0.0.1:9 failed")
        assert "Traceback" not in printed
