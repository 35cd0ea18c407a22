"""A clone has the same bytes whatever git does to line ends, and lists of digests guard with and without asserts."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from fcn.runtime import files


def tracked(folder: Path) -> dict[str, str]:
    """sha256 of each file that git has."""
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=folder, text=True).split("\0")
    return {name: files.sha256(folder / name) for name in names if name}


@pytest.mark.parametrize("autocrlf", ["true", "input"])
def test_a_clone_has_the_same_bytes_whatever_git_does_to_line_ends(tmp_path: Path, autocrlf: str) -> None:
    origin = tmp_path / "origin"
    for command in (
        ["git", "init", "--quiet", str(origin)],
        ["git", "--work-tree", str(ROOT), "--git-dir", str(origin / ".git"), "add", "--all"],
        ["git", "-C", str(origin), "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "state"],
        ["git", "clone", "--quiet", str(origin), str(tmp_path / "plain")],
        ["git", "clone", "--quiet", "--config", f"core.autocrlf={autocrlf}", str(origin), str(tmp_path / "crlf")],
    ):
        subprocess.run(command, check=True, cwd=ROOT)
    plain = tracked(tmp_path / "plain")
    assert plain == tracked(tmp_path / "crlf")
    assert plain == {name: files.sha256(ROOT / name) for name in plain}  # nor has a commit changed any
    status = subprocess.check_output(["git", "status", "--porcelain"], cwd=tmp_path / "crlf", text=True)
    assert status == ""


def test_a_changed_list_of_camvids_files_is_refused_without_asserts_too(tmp_path: Path) -> None:
    source = ROOT / "fcn" / "datasets" / "sources"
    (tmp_path / "camvid.sha256").write_bytes((source / "camvid.sha256").read_bytes().replace(b"\n", b"\r\n"))
    (tmp_path / "camvid.py").write_text((source / "camvid.py").read_text())
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import camvid\n"
        "from fcn.runtime.errors import one_line\n"
        "with one_line(): camvid.build(None, {}, None)"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/camvid.sha256 was changed: its digest is not the expected one; ")
    assert len(done.stderr.splitlines()) == 1
