"""Damaged files: they are detected when they are read, and restored by following the advice of `fcn doctor`."""

import os
import re
from pathlib import Path

import pytest
import torch
from conftest import Checkout, Fcn, as_checkout
from model_files import META, noise

from fcn.experiments import integrity
from fcn.models import FCN
from fcn.pipeline import cache
from fcn.weights import model_file

NET = "data/weights/fcn8s.safetensors"


def flip(path: Path) -> None:
    """Flips one bit of a file without changing its time and size, which DVC checks."""
    facts, content = path.stat(), bytearray(path.read_bytes())
    content[-100] ^= 1
    path.chmod(0o644)
    with path.open("r+b") as file:  # in place, so that hard links see the change too
        file.write(content)
    path.chmod(facts.st_mode)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.slow
def test_a_bit_that_flips_in_weights_and_cache_is_noticed_and_repaired_as_doctor_says(ready: Checkout) -> None:
    path, md5 = ready.folder / NET, re.findall(rf"path: {NET}\n\s+hash: md5\n\s+md5: (\w+)", ready.read("dvc.lock"))[0]
    place = ready.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    whole = path.read_bytes()
    path.unlink()
    os.link(place, path)  # DVC links files to its cache where it can
    ready.run("dvc", "status")
    flip(place)
    assert path.read_bytes() != whole
    assert "Data and pipelines are up to date" in ready.run("dvc", "repro")  # DVC only checks time and size
    for words in (["trace", NET], ["predict", "a.png", "--out", "out"], ["verify", "--stride", "8"]):
        printed = ready.run("fcn", *words, code=1)
        assert printed.splitlines()[-1].startswith(
            f"error: {NET} is damaged: its content does not match its sha256; run"
        )
        assert "Traceback" not in printed
    printed = ready.run("fcn", "doctor", code=1)
    assert f"bad   {NET} is damaged" in printed
    (line,) = [line for line in printed.splitlines() if "does not match its md5" in line]
    named = re.fullmatch(r"bad   (\S+) does not match its md5: delete it and (\S+), then .* `dvc repro`.*", line)
    assert named
    assert named[2] == NET
    Path(named[1]).unlink()
    path.unlink()
    ready.run("dvc", "repro")
    assert path.read_bytes() == whole
    assert "bad " not in ready.run("fcn", "doctor", "--full")


@pytest.mark.slow
def test_a_member_of_a_folder_that_changed_in_the_cache_is_named(
    ready: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ready.folder)
    cache.folder.cache_clear()
    whole = integrity.compare(600)
    assert whole.damaged == []
    assert whole.count > 10
    listing = next(Path(".dvc/cache").rglob("*.dir"))
    md5 = re.findall(r'"md5": "(\w+)"', listing.read_text())[0]
    flip(Path(".dvc/cache/files/md5") / md5[:2] / md5[2:])
    found = integrity.compare(600)
    assert [place.name for place, _ in found.damaged] == [md5[2:]]
    assert "/" in found.damaged[0][1]
    late = integrity.compare(-1)
    assert (late.count, late.left) == (0, whole.count)
    cache.folder.cache_clear()


def test_what_a_model_file_says_of_itself_reaches_a_terminal_escaped(fcn: Fcn, tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
    path = tmp_path / "a.safetensors"
    facts = {**vars(META), "params": {evil: evil, "lr": 1}}
    model_file.save(path, FCN(8, 8, "slim", pad="same").state_dict(), model_file.Meta(**facts))
    as_checkout(tmp_path)
    out, err, _ = fcn("trace", path)
    assert "lr 1" in out
    assert r"\x1b]0;owned\x07" in out
    assert all(line.isprintable() for line in [*out.splitlines(), *err.splitlines()])


def test_names_of_files_reach_a_terminal_escaped(fcn: Fcn, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model_file.save(path, FCN(8, 8, "slim", pad="same").state_dict(), META)
    Path("in").mkdir()
    Path("in/\x1b[2J.png").write_text("no picture")
    noise(9, 9).save("in/a.png")
    out, err, code = fcn("predict", "in", "--model", path, "--out", "out")
    assert "\x1b" not in f"{out}{err}{code}"
    assert r"\x1b[2J.png cannot be decoded" in err
    code = fcn("predict", "in", "--model", "\x1b[2J", "--out", "out")[2]
    assert code == r"error: \x1b[2J is missing; run `dvc checkout`, or `dvc repro` if it was never made"


def test_a_backbone_is_traced_to_the_beginning_of_its_chain(fcn: Fcn, tmp_path: Path) -> None:
    path = tmp_path / "backbone.safetensors"
    meta = model_file.Meta({"backbone": "slim"}, META.preprocessing, None, None, None, 0, 1, {})
    model_file.save(path, {"x": torch.zeros(1)}, meta)
    as_checkout(tmp_path)
    assert "none: the chain begins here" in fcn("trace", path)[0]
