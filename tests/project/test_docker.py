"""The build context of the Docker image."""

import subprocess
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from conftest import ROOT


def ignored(path: str) -> bool:
    """As Docker reads .dockerignore: slashes at the end count for nothing, a pattern covers what lies below, the last
    pattern that matches decides."""
    left_out = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = PurePosixPath(line.removeprefix("!"))
        parts = PurePosixPath(path).parts[: len(pattern.parts)]
        if len(parts) == len(pattern.parts) and all(map(fnmatchcase, parts, pattern.parts)):
            left_out = not line.startswith("!")
    return left_out


def test_the_image_has_every_file_that_git_has_and_nothing_that_was_made() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [path for path in tracked.stdout.split("\0")[:-1] if ignored(path)] == []
    made = (".venv/bin/fcn", "data/raw/a.png", "data/weights/fcn8s.safetensors", "data/own/mine/a.png", "mlflow.db")
    assert all(map(ignored, made))
