"""Folders that somebody made to do harm: `fcn inspect` answers in a line, in bounded time and memory."""

import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from makers import png
from PIL import Image

from fcn.datasets import pairing
from fcn.inspection import inspection
from fcn.io import images
from fcn.runtime import files
from fcn.runtime.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images and their masks."""
    place = tmp_path / "mine"
    rng = np.random.default_rng(0)
    for i in range(4):
        for name, pixels in (
            ("images", rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)),
            ("masks", rng.integers(0, 2, (6, 4), dtype=np.uint8)),
        ):
            (place / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / name / f"{i}.png")
    return place


def fifo(path: Path) -> None:
    hidden = path.with_name(".pipe")
    os.mkfifo(hidden)
    path.symlink_to(hidden)


def sparse(path: Path) -> None:
    """A terabyte that takes no room."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


def itself(path: Path) -> None:
    path.symlink_to(path)


def lines(folder: Path) -> list[str]:
    """What inspect refuses, in one way or the other."""
    try:
        return inspection.inspect(folder).errors
    except UserError as error:
        return [str(error)]


@pytest.mark.parametrize("hostile", [fifo, sparse, itself])
@pytest.mark.parametrize("name", ["classes.csv", "train.txt", "images/1.png", "masks/1.png"])
def test_what_is_no_file_or_has_no_end_is_refused_in_one_line(
    name: str, hostile: Callable[[Path], None], folder: Path
) -> None:
    (folder / "val.txt").write_text("0\n")
    (folder / name).unlink(missing_ok=True)
    hostile(folder / name)
    said = [line for line in lines(folder) if name in line]
    assert said
    assert any("is not a regular file" in line or "is larger than" in line for line in said), said
    assert not any("\n" in line for line in said)


@pytest.mark.parametrize("name", ["classes.csv", "train.txt", "images/1.png", "masks/1.png", "more"])
@pytest.mark.parametrize("target", ["secret", "/dev/zero", "missing"])
def test_a_link_that_leads_out_of_the_folder_is_refused(name: str, target: str, folder: Path) -> None:
    (folder.parent / "secret").mkdir()
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder.parent / target)
    with pytest.raises(UserError, match=f"the link '{name}' points outside the folder, to '.*{target}'; replace it"):
        inspection.inspect(folder)


def test_links_within_the_folder_and_to_dvcs_cache_are_followed(folder: Path) -> None:
    for name, kept in (("images/1.png", ".kept/1.png"), ("masks/2.png", "../cache/files/md5/ab/" + "0" * 30)):
        (folder / kept).parent.mkdir(parents=True)
        (folder / name).rename(folder / kept)
        (folder / name).symlink_to(folder / kept)
    assert inspection.inspect(folder).errors == []


def test_folders_without_end_are_refused(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    for _ in range(1500):  # the path is longer than any call takes
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    try:
        with pytest.raises(UserError, match="has folders nested more than 32 levels"):
            pairing.files(folder)
    finally:  # pytest's own clearing away is recursive
        subprocess.run(["rm", "-r", str(folder)], check=True)


def test_a_file_of_proc_which_says_that_it_is_empty_is_read_no_further() -> None:
    assert files.read_regular(Path("/proc/self/status"), 100) == b""


def test_a_mask_of_more_colours_than_any_mask_has_is_refused(folder: Path) -> None:
    every = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64, 1) >> np.array([8, 4, 0], np.uint32)
    for name in ("images", "masks"):
        Image.fromarray((every & 255).astype(np.uint8)).save(folder / name / "1.png")
    (error,) = [line for line in lines(folder) if "masks/1.png" in line]
    assert error.startswith("masks/1.png holds more than 1024 colours; a mask holds one per class: is it a photograph")


def test_a_picture_that_would_need_more_than_a_gigabyte_is_refused_before_it_is_decoded(folder: Path) -> None:
    side = 13_000
    with (folder / "images" / "1.png").open("wb") as file:
        file.write(png(side, side, (b"IDAT", zlib.compress(b"\0" * 1000))))
        file.truncate(300_000_000)
    (error,) = [line for line in lines(folder) if "images/1.png" in line]
    assert error == "images/1.png needs 1.0 GB of memory, limit 0.9 GB; cut it into several files"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_a_pair_of_the_largest_pictures_takes_less_than_a_gigabyte(mode: str, tmp_path: Path) -> None:
    side = int(images.MAX_PIXELS**0.5)
    for name, kind in (("images", "RGB"), ("masks", mode)):
        (tmp_path / "big" / name).mkdir(parents=True)
        Image.new(kind, (side, side)).save(tmp_path / "big" / name / "a.png", compress_level=1)
    program = (
        "import sys; from pathlib import Path; from fcn.inspection import inspection, summary\n"
        "print(*summary.report(inspection.inspect(Path(sys.argv[1]), 'images/*')), sep='\\n')\n"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "big")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    *report, peak = done.stdout.splitlines()
    assert f"{side}x{side} (1)" in report[2]
    assert int(peak) * 1024 < 1 << 30
