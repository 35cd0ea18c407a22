"""What names, folders and patterns stand for."""

from pathlib import Path

import pytest

from fcn.inference import input_files


def test_names_folders_and_patterns_stand_for_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.png", "a/deep/Y.JPG", "a/note.txt", "a/.hidden.png", "a/out/old.png", "b/z.png", "b/[1].png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    found, lost = input_files.find(["a", "b/[1].png", "b/*.png", "a/x.png", "c.png", "d/*.png", "empty"], Path("a/out"))
    assert [(root.name, file.name) for root, file in found] == [
        ("a", "Y.JPG"),
        ("a", "x.png"),
        ("b", "[1].png"),
        ("b", "z.png"),
    ]
    assert [line.partition(" (")[0] for line in lost] == [
        "c.png is missing",
        "d/*.png is missing",
        "empty holds no images",
    ]
