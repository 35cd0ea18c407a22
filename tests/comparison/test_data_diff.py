"""`fcn diff`: images and masks that differ between two states of a data set, found by their digests."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Checkout
from own_folders import COLOURS, write
from PIL import Image

from fcn.comparison import data, data_sheet
from fcn.comparison.data import State
from fcn.data.labels import VOID, Labels
from fcn.datasets.sources import Sample

THREE = Labels(("sky", "road", "car"), ((70, 130, 180), (128, 64, 128), (0, 0, 142)))


def state(root: Path, files: dict[str, tuple[str, str]], split: str = "train", labels: Labels = THREE) -> State:
    """A state with the digests of the image and of the mask by name; the files need not exist."""
    samples = {f"{name}.jpg": Sample(name, root / f"{name}.jpg", root / f"{name}.png") for name in files}
    md5 = {f"{name}.jpg": image for name, (image, _) in files.items()}
    md5 |= {f"{name}.png": mask for name, (_, mask) in files.items()}
    return State(str(root), root, labels, samples, {path: [split] for path in samples}, md5, cached=False)


def test_files_with_equal_digests_are_not_even_opened(tmp_path: Path) -> None:
    """No file exists but the edited mask."""
    for folder, rows in (("a", [[0, 0, 1], [0, 2, VOID]]), ("b", [[0, 1, 1], [1, 2, 0]])):
        write(tmp_path / folder / "edited.png", np.array(rows, np.uint8))
    one = state(tmp_path / "a", {"edited": ("1", "2"), "same": ("3", "4")})
    other = state(tmp_path / "b", {"edited": ("1", "5"), "same": ("3", "4")})
    (change,) = data.diff(one, other)
    assert (change.kind, change.what, change.moved) == ("edited", ("mask",), {(0, 1): 2, (VOID, 0): 1})
    expected = "edited   edited (train): mask, 3 pixels moved (sky → road 2, void → sky 1)"
    assert data.line(change, THREE) == expected


def test_moves_are_counted_from_class_to_class_in_descending_order() -> None:
    before = np.array([[0, 0, 0, 1], [2, 2, VOID, 1]], np.uint8)
    after = np.array([[1, 1, 0, 0], [VOID, 2, 2, 1]], np.uint8)
    moves = data.moves(before, after)
    assert next(iter(moves.items())) == ((0, 1), 2)
    assert moves == {(0, 1): 2, (1, 0): 1, (2, VOID): 1, (VOID, 2): 1}
    assert data.moves(before, before) == {}


def test_a_mask_of_another_size_or_of_other_classes_has_no_moves(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.png", np.zeros((4, 6), np.uint8))
    write(tmp_path / "b" / "x.png", np.zeros((2, 3), np.uint8))
    one, other = state(tmp_path / "a", {"x": ("1", "2")}), state(tmp_path / "b", {"x": ("1", "3")})
    (change,) = data.diff(one, other)
    assert data.line(change, THREE) == "edited   x (train): mask, 6×4 → 3×2 pixels"
    two = Labels(("sky", "road"), THREE.palette[:2])
    (change,) = data.diff(one, state(tmp_path / "a", {"x": ("1", "3")}, labels=two))
    assert data.line(change, two) == "edited   x (train): mask, of other classes"


def test_of_many_changes_only_the_first_are_decoded(tmp_path: Path) -> None:
    names = [f"{i:02}" for i in range(data.SHOWN + 5)]
    for name in names[: data.SHOWN]:
        for suffix in ("jpg", "png"):
            write(tmp_path / f"{name}.{suffix}", np.zeros((4, 6), np.uint8))
    changes = list(data.diff(state(tmp_path, {}), state(tmp_path, dict.fromkeys(names, ("1", "2")))))
    assert [change.name for change in changes] == names
    assert [bool(change.after) for change in changes] == [True] * data.SHOWN + [False] * 5
    data_sheet.write(changes, THREE, tmp_path / "sheet.png")


def test_images_in_another_split_are_no_edits(tmp_path: Path) -> None:
    one, other = state(tmp_path, {"x": ("1", "2")}), state(tmp_path, {"x": ("1", "2")}, split="val")
    assert list(data.diff(one, other)) == []
    assert data.moved_between_splits(one, other) == ["x: train → val"]


def test_the_sheet_shows_the_part_that_changed(tmp_path: Path) -> None:
    before = np.zeros((200, 300), np.uint8)
    after = before.copy()
    after[90:130, 100:180] = 1
    change = data.Change("edited", "x", ("mask",), ("train",), {"mask": before}, {"mask": after}, {(0, 1): 3200})
    # 40 rows and 80 columns, and a quarter of them around.
    assert data_sheet._part(before, after) == (slice(80, 140), slice(80, 200))
    data_sheet.write([change], THREE, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        shown = {colour for _, colour in sheet.getcolors(1 << 24) or []}
    assert set(THREE.palette[:2]) <= shown


@pytest.fixture
def adopted(checkout: Checkout, tmp_path: Path) -> Checkout:
    """Ten images of a user's own with colour masks, packed and committed."""
    source, rng = tmp_path / "mine", np.random.default_rng(0)
    for i in range(10):
        write(source / "photos" / f"{i}.png", rng.integers(0, 256, (44, 60, 3), dtype=np.uint8))
        write(source / "truth" / f"{i}.png", COLOURS[rng.integers(0, 4, (44, 60))])
    checkout.run("fcn", "inspect", str(source), "--adopt", "mine")
    checkout.run("fcn", "recipe", "own-mine", "--force")
    checkout.run("dvc", "repro", "resize")
    checkout.commit()
    return checkout


@pytest.mark.slow
def test_three_edits_two_additions_and_a_removal_are_six_lines(adopted: Checkout) -> None:
    folder = adopted.folder / "data/own/mine"
    assert adopted.run("fcn", "diff") == "no image and no mask differs; commit HEAD has 10 images\n".replace(
        "commit HEAD", f"commit {adopted.run('git', 'rev-parse', 'HEAD')[:7]}"
    )
    with Image.open(folder / "truth/1.png") as mask:
        pixels = np.array(mask)
    was = [int(number) for number in (pixels[:2, 0] == COLOURS[:, None]).all(2).argmax(0)]
    pixels[:2, 0] = COLOURS[(was[0] + 1) % 4], COLOURS[(was[1] + 2) % 4]
    edits = {"truth/1.png": pixels, "photos/2.png": np.zeros((44, 60, 3), np.uint8)}
    edits |= {"photos/3.png": np.ones((44, 60, 3), np.uint8), "truth/3.png": np.tile(COLOURS[1], (44, 60, 1))}
    for name, grey in {"new a": 7, "new b": 9}.items():
        edits |= {f"photos/{name}.png": np.full((44, 60, 3), grey, np.uint8), f"truth/{name}.png": edits["truth/3.png"]}
    for name, content in edits.items():
        (folder / name).unlink(missing_ok=True)
        write(folder / name, content)
    for name in ("photos/4.png", "truth/4.png"):
        (folder / name).unlink()
    before = adopted.run("fcn", "diff")
    lines = before.split("\n\n")[0].splitlines()
    assert [line.split(" (")[0].split(maxsplit=1) for line in lines] == [
        *(["removed", "4"], ["added", "new a"], ["added", "new b"], ["edited", "1"], ["edited", "2"], ["edited", "3"])
    ]
    assert ": mask, 2 pixels moved (" in lines[3]
    assert lines[4].endswith(": image")
    assert ": image and mask, " in lines[5]
    assert "6 of 12 images changed" in before
    with Image.open(adopted.folder / ".fcn/diff.png") as sheet:
        assert sheet.width > 256
    adopted.run("dvc", "repro", "resize")
    adopted.commit()
    between = adopted.run("fcn", "diff", "HEAD~1", "HEAD", "--sheet", ".fcn/other.png")
    assert between.split("\n\n")[0].splitlines() == lines
    assert "no image and no mask differs" in adopted.run("fcn", "diff")


@pytest.mark.slow
def test_mistakes_are_one_line_and_an_embedded_data_set_is_compared_too(ready: Checkout) -> None:
    assert "no image and no mask differs" in ready.run("fcn", "diff")
    assert ready.run("fcn", "diff", "nothing", code=1) == "error: nothing is neither a DVC experiment nor a commit\n"
    assert "write a name that ends in .png" in ready.run("fcn", "diff", "--sheet", "x.jpg", code=1)
    shutil.rmtree(ready.folder / ".dvc/cache/files")
    printed = ready.run("fcn", "diff", code=1)
    assert printed.startswith("error: DVC's cache does not have data/raw of commit")
    assert len(printed.splitlines()) == 1
    shutil.rmtree(ready.folder / "data/raw")
