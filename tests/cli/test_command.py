"""The command `fcn` in a shell: closed pipes, broken recipes, unusable devices."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from conftest import ROOT, Checkout, as_checkout

from fcn.runtime import machine
from fcn.runtime.errors import UserError, redacted, without_credentials


def fcn(*words: str, folder: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "fcn", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("words", "status"), [(["recipe"], 141), (["recipe", "nosuch"], 1), (["--help"], None)])
def test_a_reader_that_has_left_costs_no_word(words: list[str], status: int | None, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fcn", *words]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert "roken pipe" not in done.stderr
    assert "BrokenPipeError" not in done.stderr
    assert status in (None, done.returncode)
    assert ("there is no recipe 'nosuch'" in done.stderr) == ("nosuch" in words)


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    return as_checkout(tmp_path)


def test_a_recipe_that_cannot_be_read_leaves_the_others_in_the_list(marked: Path) -> None:
    folder = marked / "recipes"
    (folder / "good.yaml").write_bytes((ROOT / "recipes" / "scenes.yaml").read_bytes())
    (folder / "empty.yaml").write_bytes(b"")
    (folder / "latin.yaml").write_bytes("# Stra\xdfen".encode("latin-1"))
    (folder / "escape.yaml").write_bytes(b"# red \x1b[31m text\n")
    (folder / "folder.yaml").mkdir()
    listed = fcn("recipe", folder=marked)
    assert (listed.returncode, listed.stderr) == (0, "")
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in listed.stdout.splitlines()}
    assert lines.keys() == {"good", "empty", "latin", "escape"}
    assert lines["good"].startswith("Embedded street scenes")
    assert lines["empty"] == "has no header"
    assert lines["latin"] == "cannot be read: recipes/latin.yaml is not UTF-8 text (byte 6)"
    assert lines["escape"] == "red ?[31m text"
    assert fcn("recipe", "good", folder=marked).returncode == 0
    assert (marked / "params.yaml").read_bytes() == (folder / "good.yaml").read_bytes()
    assert fcn("recipe", "latin", folder=marked).stderr == ("error: recipes/latin.yaml is not UTF-8 text (byte 6)\n")


def test_an_experiment_that_is_not_utf8_can_be_replaced_by_force_only(marked: Path) -> None:
    folder = marked / "recipes"
    (folder / "good.yaml").write_bytes((ROOT / "recipes" / "scenes.yaml").read_bytes())
    (marked / "params.yaml").write_bytes(b"\xff")
    assert "edits that are not committed" in fcn("recipe", "good", folder=marked).stderr
    assert fcn("recipe", "good", "--force", folder=marked).stderr == ""


@pytest.mark.parametrize("name", ["meta", "nosuch", "cuda:99", "lazy", "cpu:x", "xla", "privateuseone", "-1"])
def test_a_device_that_cannot_compute_is_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_DEVICE", name)
    with pytest.raises(UserError) as caught:
        machine.device()
    assert str(caught.value).startswith(f"FCN_DEVICE is {name!r}, which this machine cannot use")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("http://ann:secret@host:5000/mlflow", "http://host:5000/mlflow"),
        ("https://secret@host", "https://host"),
        ("postgresql+psycopg2://ann:secret@host/db?sslmode=require&password=secret", "postgresql+psycopg2://host/db?sslmode=***&password=***"),
        ("postgresql://ann:se@cret@host/db", "postgresql://host/db"),
        ("postgresql://ann:sec/ret@host/db", "postgresql://***@host/db"),
        ("postgresql://ann:sec?ret@host/db", "postgresql://***@host/db"),
        ("https://host/?access_token=secret", "https://host/?access_token=***"),
        ("sqlite:////home/ann@host/mlflow.db", "sqlite:////home/ann@host/mlflow.db"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_credentials(uri: str, shown: str) -> None:
    assert redacted(uri) == shown
    text = f"API request to {uri} failed with exception HTTPConnectionPool('{uri}')"
    assert without_credentials(text) == f"API request to {shown} failed with exception HTTPConnectionPool('{shown}')"


@pytest.mark.slow
@pytest.mark.parametrize("uri", ["http://ann:p4ssw0rd@127.0.0.1:9", "postgresql://ann:p4ssw0rd@127.0.0.1:9/db"])
def test_no_command_prints_the_password_of_the_tracking_store(uri: str, checkout: Checkout) -> None:
    finish = (
        "from fcn import params\nfrom fcn.tracking import stage_run\n"
        "with stage_run.stage('train', params.load(), {}): pass"
    )
    for words in (["doctor"], ["sync"], ["serve", "--port", "0"], ["trace", "params.yaml"]):
        printed = checkout.run("fcn", *words, code=None, MLFLOW_TRACKING_URI=uri)
        assert "p4ssw0rd" not in printed, words
        assert "Traceback" not in printed, printed
    printed = checkout.run("python", "-c", finish, MLFLOW_TRACKING_URI=uri)
    assert "warning: MLflow tracking is off for this stage" in printed
    assert "p4ssw0rd" not in printed


@pytest.mark.slow
def test_a_stage_that_ends_does_not_print_the_password_of_a_server_that_answers(checkout: Checkout) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{checkout.folder}/server.db", "--workers", "1"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=checkout.folder,
        env=checkout.environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    requests.get(f"http://127.0.0.1:{port}/health", timeout=10)
                    break
                except requests.ConnectionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.5)
            uri = f"http://ann:p4ssw0rd@127.0.0.1:{port}"
            finish = (
                "from fcn import params\nfrom fcn.tracking import stage_run\n"
                "with stage_run.stage('train', params.load(), {}): pass"
            )
            for words in (["python", "-c", finish], ["fcn", "ui"], ["fcn", "doctor"]):
                printed = checkout.run(*words, MLFLOW_TRACKING_URI=uri)
                assert "p4ssw0rd" not in printed, words
                assert "warning: MLflow tracking is off" not in printed
            assert f"http://127.0.0.1:{port}" in printed
        finally:
            os.killpg(server.pid, signal.SIGTERM)
