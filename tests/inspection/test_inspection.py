"""What `fcn inspect` says of a folder's splits: classes that one of them lacks, few images, the same image twice."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Checkout
from PIL import Image

from fcn.datasets import packing, sources
from fcn.datasets.sources import folder as source
from fcn.inspection import inspection, summary
from fcn.runtime.errors import UserError

SIZE = (6, 10)


def write(folder: Path, key: str, codes: list[int], seed: int, ending: str = "png") -> None:
    """The image and the mask of one key; the same seed draws the same image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for kind, content, end in (("images", pixels, ending), ("masks", np.resize(np.uint8(codes), SIZE), "png")):
        path = folder / kind / f"{key}.{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content).save(path)


def lists(folder: Path, train: list[str], val: list[str]) -> None:
    for split, keys in (("train", train), ("val", val)):
        (folder / f"{split}.txt").write_text("".join(f"{key}\n" for key in keys))


def report(found: inspection.Inspection) -> str:
    return "\n".join(summary.report(found))


def test_the_table_counts_masks_by_split_and_classes_of_one_split_alone_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\ncar")
    contents = {"a": [0, 1], "b": [0, 1], "c": [0, 3], "d": [0, 2], "e": [0, 3]}
    for i, (key, codes) in enumerate(contents.items()):
        write(tmp_path, key, codes, i)
    lists(tmp_path, ["a", "b", "c"], ["d", "e"])
    found = inspection.inspect(tmp_path)
    lines = report(found).splitlines()
    table = [line.split() for line in lines[4:9]]
    assert table == [
        ["code", "class", "pixels", "masks", "train", "val"],
        ["0", "sky", "50.00%", "5", "3", "2"],
        ["1", "road", "20.00%", "2", "2", "0"],
        ["2", "tree", "10.00%", "1", "0", "1"],
        ["3", "car", "20.00%", "2", "1", "1"],
    ]
    assert "warning: only in masks of val: 1 class, tree; the nets cannot learn them" in lines
    assert "warning: only in masks of train: 1 class, road; they will have no score" in lines
    assert "warning: only 5 images: too few for training" in lines
    assert found.errors == []


def test_a_val_split_of_fewer_than_ten_images_is_a_warning(tmp_path: Path) -> None:
    for i in range(50):
        write(tmp_path, f"{i:02d}", [0, 1], i)
    found = inspection.inspect(tmp_path)
    assert found.parts == {"train": 40, "val": 10}
    assert found.warnings == []
    for few, text in ((1, "1 image"), (9, "9 images")):
        lists(tmp_path, [f"{i:02d}" for i in range(50 - few)], [f"{i:02d}" for i in range(50 - few, 50)])
        assert inspection.inspect(tmp_path).warnings == [
            f"val has {text}: its scores are unreliable; add images, or change data.folder.fraction"
        ]


def test_pictures_that_fit_neither_pattern_are_counted_by_folder(tmp_path: Path) -> None:
    for i in range(12):
        write(tmp_path, f"{i:02d}", [0, 1], i)
    assert "neither pattern" not in report(inspection.inspect(tmp_path))
    for name in ("test/a.png", "test/b.JPG", "top.png", "test/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert (
        "note: images that match neither pattern, skipped: 2 in test/, 1 in the top folder; `fcn predict` accepts "
        "images without masks"
    ) in report(inspection.inspect(tmp_path, "images/*", "masks/*")).splitlines()


def test_a_class_in_no_mask_is_a_warning_and_not_said_of_a_split_too(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree")
    for i in range(12):
        write(tmp_path, f"{i:02d}", [0, 1], i)
    absent, few = inspection.inspect(tmp_path).warnings
    assert absent == "in no mask: 1 class, tree"
    assert few.startswith("val has 2 images: ")


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_the_same_image_in_both_splits_is_an_error_that_names_both_whatever_their_files(
    ending: str, tmp_path: Path
) -> None:
    for i in range(12):
        write(tmp_path, f"{i:02d}", [0, 1], i)
    drawn = inspection.inspect(tmp_path)
    train, val = (drawn.members[split][0].key for split in ("train", "val"))
    (tmp_path / f"images/{val}.png").unlink()
    write(tmp_path, val, [1, 0], int(train), ending)  # whose mask may be another
    (error,) = inspection.inspect(tmp_path).errors
    assert error.startswith("the same image is in both splits: ")
    assert f"images/{train}.png (train)" in error
    assert f"images/{val}.{ending} (val)" in error
    assert error.endswith("; delete all but one, with their masks, or name all in the list of one split")


def test_the_same_image_twice_in_one_split_is_a_note(tmp_path: Path) -> None:
    for key, seed in (("a", 0), ("b", 0), ("c", 2), ("d", 3)):
        write(tmp_path, key, [0, 1], seed)
    lists(tmp_path, ["a", "b"], ["c", "d"])
    found = inspection.inspect(tmp_path)
    assert found.errors == []
    assert "duplicated image: images/a.png (train), images/b.png (train)" in found.notes


def test_resize_says_of_the_same_image_in_both_splits_what_applies_to_a_folder() -> None:
    with pytest.raises(UserError, match=r"a \(train\) is b \(val\); delete all but one, with their masks, or name all"):
        packing.refuse_shared({"x": "a"}, {"x": "b"}, source.SHARED)


def test_an_image_that_is_cut_off_behind_its_head_is_an_error(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path, str(i), [0, 1], i, "bmp")
    path = tmp_path / "images/1.bmp"
    path.write_bytes(path.read_bytes()[:-60])
    (error,) = inspection.inspect(tmp_path).errors
    assert error.startswith("images/1.bmp cannot be decoded (")


def test_names_too_long_for_predictions_are_refused_by_the_rule_of_resize(tmp_path: Path) -> None:
    folders = "/".join(["道" * 20] * 4)  # 60 bytes each: 243 with their joints
    for i in range(3):
        write(tmp_path, f"{folders}/{i}", [0, 1], i)
    errors = inspection.inspect(tmp_path, "images/*", "masks/*").errors
    assert errors == [sources.name_error(f"{folders.replace('/', '_')}_{i}") for i in range(3)]
    assert "has 245 bytes with its folders; use at most 200" in errors[0]


@pytest.mark.slow
def test_a_folder_with_palette_masks_and_classes_called_like_columns_is_packed(
    checkout: Checkout, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    for i in range(6):
        write(folder, f"{i}", [0, 1], i)
        mask = Image.open(folder / f"masks/{i}.png")
        mask.putpalette([9, 9, 9, 200, 30, 30])
        mask.save(folder / f"masks/{i}.png")
    (folder / "classes.csv").write_text("name;r;g;b\nid;9;9;9\nheight;200;30;30\n")
    checkout.run("fcn", "inspect", str(folder), "--adopt", "mine")
    checkout.run("fcn", "recipe", "own-mine", "--force")
    checkout.run("dvc", "repro", "resize")
    head, *rows = (checkout.folder / "data/resized/train.csv").read_text().splitlines()
    assert head.endswith(",void,pixels:id,pixels:height")
    assert all(row.endswith(",0,30,30") for row in rows)
