"""Locks exclude other processes until their holder ends, and say who holds them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT

from fcn.runtime import locks
from fcn.runtime.errors import UserError


@contextmanager
def process(lock: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that holds a lock until its stdin is closed."""
    program = "import sys; from pathlib import Path; from fcn.runtime import locks\n"
    program += f"with locks.{lock}: print('in', flush=True); sys.stdin.read()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"in\n"
        yield first


def test_a_second_writer_of_an_out_is_refused_until_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with process(f"exclusive(Path({str(tmp_path / 'out')!r}))") as first:
        refusal = pytest.raises(UserError, match=f"process {first.pid} is writing .*/out; wait for it")
        with refusal, locks.exclusive(tmp_path / "out"):
            pass
        with locks.exclusive(tmp_path / "other"):
            pass
        first.kill()
    with locks.exclusive(tmp_path / "out"):
        pass


def test_a_lock_is_waited_for_and_its_holder_named(tmp_path: Path) -> None:
    path, holders = tmp_path / "new folder" / "lock", []
    with process(f"locked(Path({str(path)!r}))") as first:

        def end(holder: str) -> None:
            holders.append(holder)
            assert first.stdin is not None
            first.stdin.close()

        with locks.locked(path, end):
            assert first.wait() == 0
            assert path.read_text() == str(os.getpid())
    assert holders == [str(first.pid)]


def test_a_lock_can_be_tried_and_looked_at_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not locks.is_held(path)
    assert not path.exists(), "looking creates no file"
    with process(f"locked(Path({str(path)!r}))") as first:
        assert locks.is_held(path)
        assert locks.acquire(path) is None
        assert path.read_text() == str(first.pid)
        first.kill()
    assert not locks.is_held(path)
    lock = locks.acquire(path)
    assert lock
    assert locks.is_held(path)
    lock.close()
    assert not locks.is_held(path)
