"""Files that are whole or absent, on a disk that may fill up, under processes that may be killed."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from fcn.runtime import files, locks

WATCHER = """
import os, sys
from pathlib import Path
calls, real = [], os.fsync
def fsync(descriptor):
    calls.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
    real(descriptor)
os.fsync = fsync
def hook(event, values):
    if event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR):
        calls.append(f"write {Path(os.fsdecode(values[0])).name}")
    if event == "os.rename":
        calls.append(f"rename {Path(values[0]).name} {Path(values[1]).name}")
sys.addaudithook(hook)
import torch
from fcn.runtime import files
calls.clear()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of open files are read from /proc")
@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("files.write_text(Path('folder/a'), 'x')", True),
        ("files.write_tensors(Path('folder/a'), {'t': torch.ones(3)}, 'k', 1)", False),  # written by Rust: no event
    ],
)
def test_a_file_is_written_synced_renamed_and_its_folder_synced_in_this_order(
    line: str, seen: bool, tmp_path: Path
) -> None:
    program = f"{WATCHER}{line}\nprint(os.getpid(), *calls, sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    number, *calls = done.stdout.splitlines()
    name = f".a.{number}.tmp"
    expected = [f"fsync {name}", f"rename {name} a", "fsync folder"]
    assert calls == [f"write {name}"] * seen + expected
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["a"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "half \ud800")
    with pytest.raises(FileNotFoundError), files.replacing(path):
        pass  # nothing was written
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("guard", [locks.exclusive, files.replacing])
def test_a_write_that_the_disk_refuses_names_the_file(
    guard: Callable[[Path], AbstractContextManager[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with pytest.raises(OSError, match=f"{tmp_path}/a") as caught, guard(tmp_path / "a"):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    assert caught.value.errno == errno.ENOSPC


def test_what_a_killed_writer_left_is_removed_by_the_next_one_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f".a.{dead.pid}.tmp").write_text("half")
    (tmp_path / f".a.{os.getppid()}.tmp").write_text("at work")
    (tmp_path / ".a.user.tmp").write_text("a user's own")
    (tmp_path / f".aa.{dead.pid}.tmp").write_text("of another file")
    files.write_text(tmp_path / "a", "new")
    left = {f".a.{os.getppid()}.tmp", ".a.user.tmp", f".aa.{dead.pid}.tmp"}
    assert {p.name for p in tmp_path.iterdir()} == {"a"} | left


def test_tensors_go_through_files_that_are_whole_or_absent(tmp_path: Path) -> None:
    files.write_tensors(tmp_path / "new folder" / "a", {"t": torch.ones(3)}, "key", {"x": 1})
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["a"]


def test_a_file_with_the_longest_name_that_a_disk_allows_is_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 251}.png"
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"whole")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(path.name, b"whole")]
