"""Files that are whole or absent, on a disk that may fill up, under processes that may be killed."""

import ast
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

from fcn import files
from fcn.errors import UserError

# Who opens files for writing by itself, and why that is safe. Everything else goes through fcn/files.py.
WRITERS = {
    "fcn/files.py": "the one way to write a file",
    "fcn/download.py": "a lock beside the archive",
    "fcn/transfer.py": "continues a .part, which download.py verifies and renames",
    "fcn/verification.py": "unpacks it into another name first",
    "fcn/extraction.py": "fills a folder that is an out, deleted if the stage fails, and by DVC if it was killed",
    "fcn/packing.py": "the same",
    **{
        f"fcn/sources/{name}.py": "the same"
        for name in ("_ade20k", "camvid", "context59", "folder", "nyud", "scenes", "siftflow", "voc")
    },
    "fcn/adoption.py": "copies a user's folder, under another name first",
    "fcn/visualization.py": "the person's own folder",
    "fcn/gallery.py": "the same",
    "fcn/labels.py": "into memory",
    "fcn/page.py": "into memory",
    "stages/evaluate.py": "into memory",
    "fcn/debug.py": "draws into files.replacing's temporary name",
    "fcn/plots.py": "the same",
    "fcn/registry.py": "hands a model to MLflow",
    "fcn/store.py": "the lock of MLflow's store",
    "fcn/filling.py": "a temporary folder",
    "fcn/errors.py": "torchrun's own file for a process's last words",
    "fcn/figures.py": "draws into files.replacing's temporary name",
    "fcn/sheets.py": "the same",
    "fcn/previews.py": "the same, and into memory",
    "fcn/recorded.py": "writes into files.replacing's temporary name",
    "fcn/recipe.py": "copies into files.replacing's temporary name",
    "fcn/resume.py": "a lock, which holds no result",
}
WRITING = {"write_text", "write_bytes", "to_csv", "savefig", "save_file", "save", "tofile", "copyfile", "copy2", "move"}
OWN = {
    "files",
    "weights",
    "resume",
    "figures",
    "sheets",
    "self",
}  # fcn.files.write_text, fcn.weights.save and the like: ours


def writes(call: ast.Call) -> bool:
    """Whether a call opens a file for writing, or is of a function that does."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "open":
        modes = [a for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
        return any(isinstance(m.value, str) and set(m.value) & set("wax+") and len(m.value) < 4 for m in modes) or any(
            isinstance(a, ast.IfExp) for a in call.args
        )
    of = getattr(getattr(call.func, "value", None), "id", "")
    return name in WRITING and of not in OWN


def test_only_named_modules_open_files_for_writing() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("fcn", "stages")
        for path in (ROOT / folder).rglob("*.py")
        if any(isinstance(node, ast.Call) and writes(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert found <= set(WRITERS), f"{sorted(found - set(WRITERS))} write past fcn/files.py"


@pytest.mark.parametrize("line", ["open(p, 'w')", "p.open('ab' if s else 'wb')", "Path(p).write_bytes(b)", "a.save(p)"])
def test_a_line_that_writes_is_known_as_one(line: str) -> None:
    assert any(isinstance(node, ast.Call) and writes(node) for node in ast.walk(ast.parse(line)))


@pytest.mark.parametrize("line", ["open(p)", "p.open('rb')", "files.write_text(p, 'w')", "json.loads('w')"])
def test_a_line_that_does_not_is_not(line: str) -> None:
    assert not any(isinstance(node, ast.Call) and writes(node) for node in ast.walk(ast.parse(line)))


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
from fcn import files
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


@pytest.mark.parametrize("guard", [files.alone, files.replacing])
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


def test_a_second_writer_of_an_out_is_refused_until_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    program = "import sys; from pathlib import Path; from fcn import files\n"
    program += f"with files.alone(Path({str(tmp_path / 'out')!r})): print('in', flush=True); sys.stdin.read()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        refusal = pytest.raises(UserError, match=f"process {first.pid} is writing .*/out; wait for it")
        with refusal, files.alone(tmp_path / "out"):
            pass
        with files.alone(tmp_path / "other"):
            pass
        first.kill()
    with files.alone(tmp_path / "out"):
        pass


def test_tensors_go_through_files_that_are_whole_or_absent(tmp_path: Path) -> None:
    files.write_tensors(tmp_path / "new folder" / "a", {"t": torch.ones(3)}, "key", {"x": 1})
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["a"]


def test_a_file_with_the_longest_name_that_a_disk_allows_is_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 251}.png"
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"whole")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(path.name, b"whole")]
