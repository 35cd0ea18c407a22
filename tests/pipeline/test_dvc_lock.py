"""A kill between the end of a stage and its entry in dvc.lock loses no work, and does not lose dvc.lock."""

import shutil
import signal
import sqlite3
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Checkout

from fcn.pipeline import dvc_lock
from fcn.runtime.errors import UserError

# Runs DVC, and kills it in `train` when it enters the method named in argv.
DYING = """
import os, signal, sys
from dvc.stage import Stage
from dvc.cli import main
method = sys.argv.pop(1)
real = getattr(Stage, method)
def dying(self, *words, **named):
    if self.name == "train":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *words, **named)
setattr(Stage, method, dying)
sys.exit(main(sys.argv[1:]))
"""


def stages(checkout: Checkout) -> dict[str, object]:
    return dict(yaml.safe_load(checkout.read("dvc.lock"))["stages"])


def forget(checkout: Checkout, stage: str) -> None:
    """Removes a stage from dvc.lock and from DVC's cache, as if it had never run."""
    lock = yaml.safe_load(checkout.read("dvc.lock"))
    for out in lock["stages"].pop(stage)["outs"]:
        (checkout.folder / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).unlink()
    (checkout.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    shutil.rmtree(checkout.folder / ".dvc/cache/runs")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["save", "commit", "dump"])  # before DVC hashes, before it caches, before dvc.lock
def test_a_rung_that_was_done_when_dvc_was_killed_is_not_trained_again(ready: Checkout, method: str) -> None:
    expected = stages(ready)
    forget(ready, "train")
    said = ready.run(sys.executable, "-c", DYING, method, "repro", "train", code=-signal.SIGKILL)
    assert "FCN-32s: 4 steps" in said
    assert "train" not in stages(ready)
    again = ready.run("dvc", "repro")
    # of 4; if all outs are in DVC's cache, the stage does not even start
    assert ("Stage 'train' is cached" if method == "dump" else "resuming from step 4") in again
    assert "Running stage 'finetune16s'" not in again
    assert stages(ready) == expected
    with sqlite3.connect(ready.folder / "mlflow.db") as store:
        runs = "select name, status from runs join tags using (run_uuid) where key = 'stage' and value = 'train'"
        assert store.execute(runs).fetchall() == [("train", "FINISHED")]  # the same run, resumed
    (state,) = (ready.folder / ".fcn/states").iterdir()  # no stage has run since
    assert "removed .fcn/states/" in ready.run("fcn", "doctor", "--prune")
    assert not state.exists()


# A dvc.lock as DVC writes it. UNSEEN are the lines after which a truncation cannot be detected.
LOCK = """\
schema: '2.0'
stages:
  resize:
    cmd: python -m stages.resize
    outs:
    - path: data/resized
      hash: md5
      md5: 5bc62bd40d0773f5e28bcd63c2bd5b8c.dir
      size: 206
      nfiles: 7
  train:
    cmd: python -m stages.train --data data/resized
      --parent data/weights/backbone.safetensors
    deps:
    - path: data/resized
      hash: md5
      md5: 5bc62bd40d0773f5e28bcd63c2bd5b8c.dir
      size: 206
      nfiles: 7
    params:
      params.yaml:
        lr: 0.001
    outs:
    - path: data/weights/fcn32s.safetensors
      hash: md5
      md5: 0cc175b9c0f1b6a831c399e269772661
      size: 12
"""
UNSEEN = (8, 9, 10, 26)  # all entries before are complete


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    return tmp_path / "dvc.lock"


def test_a_dvc_lock_cut_off_anywhere_but_between_whole_entries_is_put_back(here: Path) -> None:
    lock = LOCK.replace("fcn32s", "größe")  # an umlaut has two bytes
    here.write_text(lock)
    assert dvc_lock.repair() == ""
    unseen = []
    for length in range(len(lock.encode())):
        here.write_bytes(lock.encode()[:length])
        if dvc_lock.stages(here.read_bytes()) is not None:
            unseen.append(length)
            continue
        assert dvc_lock.repair() == "dvc.lock was truncated, as after a kill; it was restored from its backup"
        assert here.read_text() == lock
    ends = [len("".join(lock.splitlines(keepends=True)[:line]).encode()) for line in UNSEEN]
    assert unseen == ends


def test_a_dvc_lock_that_is_whole_replaces_the_copy(here: Path) -> None:
    for text in (LOCK, LOCK.replace("0.001", "0.002")):
        here.write_text(text)
        dvc_lock.protect()
        assert (here.parent / ".fcn/dvc.lock").read_text() == text


def test_a_stage_of_ones_own_that_makes_nothing_may_be_the_last(here: Path) -> None:
    lock = f"{LOCK}  announce:\n    cmd: echo done\n".encode()
    graph = {"train": {"cmd": "…", "outs": ["a"]}, "announce": {"cmd": "echo done", "outs": ["b"]}}
    (here.parent / "dvc.yaml").write_text(yaml.safe_dump({"stages": graph}))
    assert dvc_lock.stages(lock) is None
    del graph["announce"]["outs"]
    (here.parent / "dvc.yaml").write_text(yaml.safe_dump({"stages": graph}))
    assert list(dvc_lock.stages(lock) or {}) == ["resize", "train", "announce"]


@pytest.mark.parametrize("content", ["", "schema: '2.0'\n", "stages: [\n", "\0", "stages:\n  a: 1\n", "stages: 1\n"])
def test_without_a_copy_git_is_named(here: Path, content: str) -> None:
    here.write_text(content)
    with pytest.raises(UserError, match="`git checkout dvc.lock`, or delete it if git has none"):
        dvc_lock.protect()
    assert here.read_text() == content


def test_the_lock_of_an_experiment_in_a_copy_is_not_kept_as_that_of_the_checkout(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(here.parent / "main"))
    here.write_text(LOCK)
    dvc_lock.protect()
    assert {path.name for path in here.parent.rglob("*")} == {"dvc.lock", "dvc.yaml"}


def test_a_state_is_needless_once_dvc_lock_names_what_its_rung_made(here: Path) -> None:
    md5 = {"done": "0cc175b9c0f1b6a831c399e269772661", "other": "92eb5ffee6ae2fec3ad71c777531578f"}
    for name in ("done", "other", "halfway"):
        state = here.parent / ".fcn/states" / name
        state.mkdir(parents=True)
        if name in md5:
            (state / "made.md5").write_text(md5[name])
    dvc_lock.protect()  # no dvc.lock yet
    assert len(list(dvc_lock.states().iterdir())) == 3
    here.write_text(LOCK)
    dvc_lock.protect()
    assert sorted(path.name for path in dvc_lock.states().iterdir()) == ["halfway", "other"]


@pytest.mark.slow
def test_with_a_cut_off_dvc_lock_nothing_is_trained_again(ready: Checkout) -> None:
    """DVC rejects some truncated files and accepts others as complete. `dvc repro` runs before or after `fcn check`."""
    whole = ready.read("dvc.lock")
    assert "valid" in ready.run("fcn", "check")  # keeps a copy
    places = [0, 7, 8192, whole.index("  finetune8s:") + 300, len(whole) - 1]
    for length in places:
        (ready.folder / "dvc.lock").write_text(whole[:length])
        assert ready.run("fcn", "check").splitlines()[0].endswith("it was restored from its backup")
        assert ready.read("dvc.lock") == whole
    assert "Running stage" not in ready.run("dvc", "repro")
    # Inside report's command, so that DVC sees a changed command and deletes the stage's outs before the stage checks.
    (ready.folder / "dvc.lock").write_text(whole[: whole.index("  report:") + 40])
    refused = ready.run("dvc", "repro", code=1)
    assert (
        "error: dvc.lock was truncated, as after a kill; it was restored from its backup; type the same command"
        in refused
    )
    assert ready.read("dvc.lock") == whole
    again = ready.run("dvc", "repro")
    assert again.count("Running stage") == 1
    assert "Running stage 'report'" in again
    assert ready.read("dvc.lock") == whole
