"""The command `fcn` in a shell: closed pipes, broken recipes, devices that cannot compute."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from fcn import machine
from fcn.errors import UserError


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


def test_a_recipe_that_cannot_be_read_leaves_the_others_in_the_list(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "good.yaml").write_bytes((ROOT / "recipes" / "scenes.yaml").read_bytes())
    (folder / "empty.yaml").write_bytes(b"")
    (folder / "latin.yaml").write_bytes("# Stra\xdfen".encode("latin-1"))
    (folder / "escape.yaml").write_bytes(b"# red \x1b[31m text\n")
    (folder / "folder.yaml").mkdir()
    listed = fcn("recipe", folder=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in listed.stdout.splitlines()}
    assert lines.keys() == {"good", "empty", "latin", "escape"}
    assert lines["good"].startswith("Embedded street scenes")
    assert lines["empty"] == "has no header"
    assert lines["latin"] == "cannot be read: recipes/latin.yaml is not UTF-8 text (byte 6)"
    assert lines["escape"] == "red ?[31m text"
    assert fcn("recipe", "good", folder=tmp_path).returncode == 0
    assert (tmp_path / "params.yaml").read_bytes() == (folder / "good.yaml").read_bytes()
    assert fcn("recipe", "latin", folder=tmp_path).stderr == ("error: recipes/latin.yaml is not UTF-8 text (byte 6)\n")


def test_an_experiment_that_is_not_utf8_can_be_replaced_by_force_only(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "good.yaml").write_bytes((ROOT / "recipes" / "scenes.yaml").read_bytes())
    (tmp_path / "params.yaml").write_bytes(b"\xff")
    assert "edits that are not committed" in fcn("recipe", "good", folder=tmp_path).stderr
    assert fcn("recipe", "good", "--force", folder=tmp_path).stderr == ""


@pytest.mark.parametrize("name", ["meta", "nosuch", "cuda:99", "lazy", "cpu:x", "xla", "privateuseone", "-1"])
def test_a_device_that_cannot_compute_is_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_DEVICE", name)
    with pytest.raises(UserError) as caught:
        machine.device()
    assert str(caught.value).startswith(f"FCN_DEVICE is {name!r}, which this machine cannot use")
    assert len(str(caught.value).splitlines()) == 1
