"""A checkpoint is used only if its content is intact."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Checkout

from fcn.models import FCN
from fcn.params import Params
from fcn.pipeline import dvc_lock
from fcn.rungs.checkpoint import Checkpoint
from fcn.runtime import files
from fcn.training.optimizer import Optimizer


def moved(content: bytes, steps: int) -> bytes:
    """The state with another number of steps, still a valid file."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["resume"])
    facts["number"] += steps
    header["__metadata__"]["resume"] = json.dumps(facts)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "30 bytes": lambda content: content[:-99] + bytes(range(30)) + content[-69:],
    "zeros": lambda content: content[:-4096] + bytes(4096),
    "the count of steps": lambda content: moved(content, 5),
    "cut off": lambda content: content[: len(content) // 2],
    "cut off in its header": lambda content: content[:100],
    "empty": lambda content: b"",
    "noise": lambda content: bytes(i * i % 251 for i in range(9999)),
}


@pytest.fixture
def net() -> FCN:
    torch.manual_seed(1)
    return FCN(2, 32, "slim", pad="same")


@pytest.fixture
def saved(net: FCN, small: Callable[..., Params], tmp_path: Path) -> tuple[Checkpoint, Optimizer]:
    """States after 20 and 40 steps; each adds 1 to a bias."""
    optimizer = Optimizer(net, small())
    found = Checkpoint(tmp_path / "states")
    for number in (10, 20, 40):
        found.number = number
        with torch.no_grad():
            net.score_fr.bias.fill_(number)
            for master in optimizer.masters.values():
                if master.shape == net.score_fr.bias.shape:
                    master.fill_(number)
        found.save(net, optimizer)
    return found, optimizer


def load(folder: Path, net: FCN, optimizer: Optimizer) -> Checkpoint:
    found = Checkpoint(folder)
    with torch.no_grad():
        net.score_fr.bias.zero_()
    found.load(net, optimizer)
    return found


def test_the_last_two_states_are_kept(saved: tuple[Checkpoint, Optimizer]) -> None:
    assert [path.name.partition("-")[0] for path in saved[0].saved()] == ["40", "20"]
    assert len(list(saved[0].folder.iterdir())) == 2


def test_the_newest_state_is_gone_back_to(saved: tuple[Checkpoint, Optimizer], net: FCN) -> None:
    assert load(saved[0].folder, net, saved[1]).number == 40
    assert net.score_fr.bias.tolist() == [40, 40]


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_state_is_one_line_and_the_one_before_it_is_gone_back_to(
    saved: tuple[Checkpoint, Optimizer], net: FCN, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, before = saved[0].saved()
    newest.write_bytes(DAMAGE[what](newest.read_bytes()))
    assert load(newest.parent, net, saved[1]).number == 20
    assert net.score_fr.bias.tolist() == [20, 20]
    assert capsys.readouterr().out.splitlines() == [
        f"warning: the checkpoint of step 40 was damaged and has been deleted ({newest.parent})",
        "resuming from step 20",
    ]
    assert list(newest.parent.iterdir()) == [before]


@pytest.mark.parametrize("what", DAMAGE)
def test_if_both_are_damaged_the_rung_starts_again(
    saved: tuple[Checkpoint, Optimizer], net: FCN, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in saved[0].saved():
        path.write_bytes(DAMAGE[what](path.read_bytes()))
    assert load(saved[0].folder, net, saved[1]).number == 0
    assert net.score_fr.bias.tolist() == [0, 0]
    assert capsys.readouterr().out.count("was damaged and has been deleted") == 2
    assert load(saved[0].folder, net, saved[1]).number == 0
    assert capsys.readouterr().out == ""


def test_a_state_that_a_kill_left_without_its_name_is_not_gone_back_to(
    saved: tuple[Checkpoint, Optimizer], net: FCN
) -> None:
    newest, _ = saved[0].saved()
    newest.rename(newest.with_name("state.safetensors"))
    assert load(newest.parent, net, saved[1]).number == 20


def test_a_note_of_a_finished_state_may_hold_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    note = dvc_lock.states() / "a" / dvc_lock.MODEL_MD5
    note.parent.mkdir(parents=True)
    note.write_bytes(b"\xff\0")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert dvc_lock.unneeded_checkpoints() == []


@pytest.mark.slow
def test_a_rung_whose_state_was_damaged_ends_with_the_same_bits(ready: Checkout) -> None:
    """A state is saved after each of its four steps; the third is damaged."""
    expected = files.sha256(ready.folder / "data/weights/fcn32s.safetensors")
    ready.run("sed", "-i", "s/^SAVE_EVERY = .*/SAVE_EVERY = 0.0/", "fcn/rungs/checkpoint.py")
    killed = "if number == 3: import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    ready.run("sed", "-i", f"s/^            if end:$/            {killed}\\n            if end:/", "fcn/rungs/rung.py")
    ready.run("dvc", "repro", "train", code=1)
    newest, before = Checkpoint(next((ready.folder / ".fcn/states").iterdir())).saved()
    newest.write_bytes(newest.read_bytes()[:-1] + b"\1")
    assert before.name.startswith("2-")
    printed = ready.run("dvc", "repro", "train", code=1)  # takes the third step again, and is killed again
    assert "warning: the checkpoint of step 3 was damaged" in printed
    assert "resuming from step 2" in printed
    assert "resuming from step 3" in ready.run("dvc", "repro", "train")
    assert files.sha256(ready.folder / "data/weights/fcn32s.safetensors") == expected
