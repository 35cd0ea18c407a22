"""Files of commits are untrusted, and validated before they are used."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Checkout

from fcn.cli import ANYWHERE, commands
from fcn.experiments import backfill
from fcn.experiments.history import Snapshot
from fcn.pipeline import cache, dvc_lock
from fcn.runtime.errors import UserError

MD5 = "0cc175b9c0f1b6a831c399e269772661"
OUT = {"path": "metrics/a.csv", "md5": MD5}


def lock(**changes: Any) -> bytes:
    """A dvc.lock with one stage."""
    stage = {"cmd": "one", "deps": [], "params": {}, "outs": [OUT]} | changes
    return yaml.safe_dump({"schema": "2.0", "stages": {"make": stage}}).encode()


def state(content: bytes, **other: bytes) -> Snapshot:
    graph = {"stages": {"make": {"cmd": "one", "outs": ["metrics/a.csv"]}}}
    given = {"dvc.yaml": json.dumps(graph).encode(), "params.yaml": (ROOT / "recipes/scenes.yaml").read_bytes()}
    return Snapshot("commit abc", given | {"dvc.lock": content} | other, 0)


@pytest.mark.parametrize(
    "out",
    [
        {"path": "metrics/a.csv", "md5": "../../../../../../etc/passwd"},
        {"path": "metrics/a.csv", "md5": "/etc/passwd"},
        {"path": "metrics/a.csv", "md5": f"{MD5}.dir/../x"},
        {"path": "metrics/a.csv", "md5": f"{MD5}\n"},
        {"path": "metrics/a.csv", "md5": MD5.upper()},
        {"path": "metrics/a.csv", "md5": 1},
        {"path": "metrics/../../a.csv", "md5": MD5},
        {"path": "/metrics/a.csv", "md5": MD5},
        {"path": "metrics/\x1b[2Ja.csv", "md5": MD5},
        {"path": "", "md5": MD5},
        {"path": 1, "md5": MD5},
        "metrics/a.csv",
    ],
)
def test_a_digest_or_path_that_dvc_does_not_write_is_refused_in_one_line(out: object) -> None:
    for content in (lock(outs=[out]), lock(outs=[OUT, out])):
        with pytest.raises(UserError, match=r"^dvc\.lock of commit abc: .*DVC does not write this") as caught:
            state(content).check()
        assert len(str(caught.value).splitlines()) == 1
        with pytest.raises(UserError, match=r"^dvc\.lock: "):
            dvc_lock.stages(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"stages: 1\n",
        b"stages: {make: 1}\n",
        b"stages: {make: {cmd: 1}}\n",
        b"a: &a [*a]\n",
    ],
)
def test_a_lock_that_is_none_is_refused_in_one_line(content: bytes) -> None:
    if content:
        with pytest.raises(UserError) as caught:
            state(content).check()
        assert len(str(caught.value).splitlines()) == 1
    assert dvc_lock.stages(content) is None or content


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("params.yaml", b"[" * 100_000),
        ("params.yaml", b"lr: 1\n"),
        ("params.yaml", b"data: 1\n"),
        ("params.yaml", b"data: {dataset: folder}\n"),
        ("dvc.yaml", b"stages: 1\n"),
        ("dvc.yaml", b"[" * 100_000),
    ],
)
def test_params_or_a_graph_that_are_none_are_refused_in_one_line(path: str, content: bytes) -> None:
    with pytest.raises(UserError, match="commit abc") as caught:
        state(lock(), **{path: content}).check()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b'{"a": 1}', b'{"fcn8s": {"mean_iu": "x"}}', b'{"f`s": {"mean_iu": 0.5}}', b"[]"]
)
def test_scores_that_are_none_are_refused_in_one_line(content: bytes) -> None:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    graph = {"stages": {"evaluate": {"cmd": "one", "outs": ["metrics/scores.json"]}}}
    stages = {"evaluate": {"cmd": "one", "outs": [{"path": "metrics/scores.json", "md5": md5}]}}
    other = {"dvc.yaml": json.dumps(graph).encode(), "metrics/scores.json": content}
    with pytest.raises(UserError, match=r"metrics/scores\.json of commit abc"):
        state(yaml.safe_dump({"stages": stages}).encode(), **other).check()


@pytest.mark.parametrize(
    "content", [b"iteration,loss\n1\n", b"loss\n1\n", b"iteration,loss\nnan,1\n", b"iteration\nx\n"]
)
def test_a_curve_that_is_none_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(UserError, match="not a table of numbers"):
        backfill.curve(content, "train.csv")


def test_stages_of_others_with_lists_of_commands_and_digests_of_others_are_no_error() -> None:
    stages = {
        "make": {
            "cmd": ["one", "two"],
            "deps": [{"path": "../x", "md5": MD5}],
            "outs": [{"path": "s3://a", "etag": "x"}],
        }
    }
    state(yaml.safe_dump({"stages": stages}).encode()).check()


def test_the_cache_gives_nothing_but_what_lies_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")
    (tmp_path / "cache/files/md5").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    for md5 in ("..../../../../secret", "", "..", str(tmp_path / "secret")):
        assert cache.find(md5) is None


@pytest.fixture
def rewritten(ready: Checkout) -> Callable[[bytes], str]:
    """Commits another dvc.lock and returns the commit."""

    def commit(content: bytes) -> str:
        original = (ready.folder / "dvc.lock").read_bytes()
        (ready.folder / "dvc.lock").write_bytes(content)
        ready.commit()
        name = ready.run("git", "rev-parse", "HEAD").strip()
        (ready.folder / "dvc.lock").write_bytes(original)
        ready.commit()
        return name

    return commit


@pytest.mark.slow
def test_a_malformed_commit_is_left_out_with_one_line_and_the_rest_is_shown(
    ready: Checkout, rewritten: Callable[[bytes], str], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret of this machine")
    content = yaml.safe_load(ready.read("dvc.lock"))
    evaluate = content["stages"]["evaluate"]
    for out in evaluate["outs"]:
        if out["path"].startswith("metrics/figures"):
            above = "../" * 20 + str(secret).lstrip("/")
            out["md5"] = f"..{above}"
    bad = [rewritten(yaml.safe_dump(content).encode()), rewritten(b"[" * 100_000), rewritten(b"\xff\n")]
    printed = ready.run("fcn", "sync")
    for commit in bad:
        assert f"commit {commit[:7]}: skipped, dvc.lock of commit {commit[:7]}" in printed
    assert printed.count("skipped") == 3
    assert "the workspace: scenes-" in printed
    for path in (ready.folder / "mlartifacts").rglob("*"):
        assert not path.is_file() or b"the secret" not in path.read_bytes()
    assert "skipped" in ready.run("fcn", "trace", "data/weights/fcn8s.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "doctor", "trace x", "sync"])
def test_a_workspace_whose_lock_is_malformed_is_one_line(ready: Checkout, command: str) -> None:
    kept = ready.folder / ".fcn/dvc.lock"
    kept.unlink(missing_ok=True)
    for content in (b"[" * 100_000, lock(outs=[{"path": "metrics/a.csv", "md5": "../../x"}])):
        (ready.folder / "dvc.lock").write_bytes(content)
        printed = ready.run("fcn", *command.split(), code=1)
        assert "dvc.lock" in printed
        assert "Traceback" not in printed
        if command != "doctor":
            assert len(printed.splitlines()) == 1, printed


@pytest.mark.parametrize("command", sorted(set(commands()) - set(ANYWHERE)))
def test_a_command_that_needs_the_checkout_says_so_elsewhere_and_makes_nothing(command: str, tmp_path: Path) -> None:
    needed = {"trace": ["x"], "compare": ["x"], "seeds": ["2"], "search": ["2", "lr=1..2"]}
    words = [sys.executable, "-m", "fcn", command, *needed.get(command, [])]
    inside = tmp_path / "checkout"
    for name in ("fcn", "stages", "data"):
        (inside / name).mkdir(parents=True)
    (inside / "dvc.yaml").touch()
    for folder, expected in (
        (tmp_path, f"error: {tmp_path} is not in a checkout of fcn, which `fcn {command}` needs; cd into one\n"),
        (inside / "data", f"error: `fcn {command}` must run in the checkout's top folder; cd {inside}\n"),
    ):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkout", "data", "dvc.yaml", "fcn", "stages"]
