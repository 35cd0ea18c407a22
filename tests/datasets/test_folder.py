"""One's own folder: pairs by name, splits, classes as declared, and what download copies of it."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, changed
from hypothesis import given, settings
from hypothesis import strategies as st
from own_folders import SIZE, make, own, write
from PIL import Image

from fcn import params
from fcn.data.labels import VOID
from fcn.datasets import class_list, pairing, resizing, sources
from fcn.datasets.sources import folder as source
from fcn.runtime.errors import UserError

# Pairs


@pytest.mark.parametrize(
    ("images", "masks", "files", "keys"),
    [
        ("images/*", "masks/*", ["images/a.jpg", "masks/a.png", "images/b/c.TIF", "masks/b/c.bmp"], ["a", "b/c"]),
        ("*", "*_class", ["1.png", "1_class.png", "2.png", "2_class.png"], ["1", "2"]),
        ("*_sat", "*", ["1_sat.jpg", "1.png"], ["1"]),
        ("*/images/*", "*/labels/*", ["train/images/a.png", "train/labels/a.png"], ["train/a"]),
        ("images/*", "masks/*", ["images/Mu\u0308ll.png", "masks/M\u00fcll.png"], ["M\u00fcll"]),  # macOS and others
        ("images/*", "masks/*", ["images/a b.png", "masks/a b.png", "images/a.txt"], ["a b"]),
        ("a+b/*", "c(d)/*", ["a+b/x.png", "c(d)/x.png", "aab/y.png"], ["x"]),
    ],
)
def test_an_image_and_its_mask_have_in_common_what_the_star_stands_for(
    images: str, masks: str, files: list[str], keys: list[str]
) -> None:
    assert [pair.key for pair in pairing.match(files, images, masks).pairs] == keys


@settings(max_examples=300, derandomize=True)
@given(st.text("*ab/", min_size=1, max_size=8).filter(lambda p: "*" in p), st.text("ab/", min_size=1, max_size=10))
def test_stars_stand_for_what_a_regular_expression_finds(pattern: str, stem: str) -> None:
    fit = re.fullmatch("(.*)".join(map(re.escape, pattern.split("*"))), stem)
    key = "/".join(filter(None, fit.groups())) if fit else ""
    assert pairing.keyed([stem], pattern) == ({key: stem} if key else {})


def test_a_pattern_of_many_stars_is_tried_in_no_time() -> None:
    assert pairing.keyed(["a" * 200 + "b"], "*a" * 60) == {}  # a regular expression would not live to see the end
    assert pairing.keyed(["a" * 200 + "b"], "*" * 60 + "c") == {}


def test_what_has_no_partner_is_known() -> None:
    found = pairing.match(["images/a.png", "images/b.png", "masks/b.png", "masks/c.png"], "images/*", "masks/*")
    assert (found.images, found.masks) == (["images/a.png"], ["masks/c.png"])


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (["images/a.png", "images/a.jpg", "masks/a.png"], "images/a.jpg and images/a.png both match images/* with a"),
        (["images/a/b.png", "images/a_b.png", "masks/a/b.png", "masks/a_b.png"], "would both be called a_b; rename"),
    ],
)
def test_two_files_with_one_name_are_refused(files: list[str], line: str) -> None:
    with pytest.raises(UserError) as caught:
        pairing.match(files, "images/*", "masks/*")
    assert line in str(caught.value)


def test_hidden_files_are_left_out_and_links_followed_once(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for name in (".kept/a.png", "b.png", "._b.png", "__MACOSX/b.png"):
        write(folder / name, np.zeros(SIZE, np.uint8))
    (folder / "linked").symlink_to(folder / ".kept")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    assert pairing.files(folder) == ["b.png", "linked/a.png"]


def test_a_name_that_no_list_can_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a\tb.png").touch()
    with pytest.raises(UserError, match=r"the name 'a\\tb.png' has control characters or invalid UTF-8; rename it"):
        pairing.files(tmp_path)


# Splits

KEYS = [f"{place}_{i:02d}" for place in ("berlin", "bonn", "köln", "ulm", "wien") for i in range(6)]


def test_a_drawn_split_keeps_groups_together_and_follows_its_seed() -> None:
    parts = pairing.divide(KEYS, 0.4, 0, "_")
    groups = {name: {key.split("_")[0] for key in keys} for name, keys in parts.items()}
    assert len(parts["val"]) == 12  # two whole groups of six, of thirty
    assert not groups["train"] & groups["val"]
    assert parts["train"] | parts["val"] == set(KEYS)
    assert pairing.divide(KEYS[::-1], 0.4, 0, "_") == parts
    drawn = {frozenset(pairing.divide(KEYS, 0.4, seed, "_")["val"]) for seed in range(20)}
    assert len(drawn) > 3


@pytest.mark.parametrize(("fraction", "val"), [(0.2, 6), (0.01, 1), (0.99, 29)])
def test_a_drawn_split_has_the_share_asked_for_and_never_an_empty_side(fraction: float, val: int) -> None:
    # 0.99 of 30 is 29.7: the 30th image would be nearer, and is train's.
    assert len(pairing.divide(KEYS, fraction, 0, None)["val"]) == val


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(UserError, match="needs at least two images or groups"):
        pairing.divide(["a_1", "a_2"], 0.5, 0, "_")


def members(files: dict[str, str], split: str, tmp_path: Path, **values: Any) -> list[str]:
    pairs = [pairing.Pair(key, f"images/{key}.jpg", f"masks/{key}.png") for key in ("a", "b c", "train/d", "val/d")]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return [p.key for p in pairing.members(tmp_path, sorted(files), pairs, split, own(**values))]


@pytest.mark.parametrize(
    "text",
    [
        "b c\na",
        "b c.jpg b c.png\na.jpg\ta.png\n",
        "b c.jpg\r\na.jpg\r\n",
        "images/b c.jpg\n\nimages/a.jpg masks/a.png\n",
        "\ufeffb c\na\na\n",
    ],
)
def test_a_list_names_images_in_any_usual_way_and_in_its_order(text: str, tmp_path: Path) -> None:
    assert members({"lists/train.txt": text}, "train", tmp_path) == ["b c", "a"]


def test_without_lists_subfolders_are_splits(tmp_path: Path) -> None:
    assert members({}, "val", tmp_path) == ["val/d"]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"train.txt": "a\nnowhere"}, "train.txt: 'nowhere' names no image that has a mask"),
        ({"train.txt": "d"}, "train.txt: 'd' names 2 images"),
        ({"train.txt": "b  c"}, "train.txt: 'b  c' names no image that has a mask"),  # two blanks: another name
        ({"train.txt": "a 2.jpg"}, "train.txt: 'a 2.jpg' names no image that has a mask"),  # missing, and a is there
        ({"train.txt": "a masks/d.png"}, "train.txt: 'a masks/d.png' names no image that has a mask"),
        ({"train.txt": "x" * 200_000}, f"train.txt: '{'x' * 80}…' names no image that has a mask"),
        ({"train.txt": "\n"}, "train.txt is empty; a split needs at least one image"),
        ({"x/train.txt": "a", "y/train.txt": "a"}, "has several lists of 'train': x/train.txt, y/train.txt"),
    ],
)
def test_a_list_that_is_not_right_is_one_line(files: dict[str, str], line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        members(files, "train", tmp_path)
    assert line in str(caught.value)


def test_a_split_that_nothing_names_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no dev.txt and no pictures in folders 'dev'; data\.folder\.fraction"):
        members({}, "dev", tmp_path)


# Classes as they are declared


def test_classes_are_names_or_names_with_codes_or_names_with_colours() -> None:
    plain = class_list.coded(["sky", {"road": 7}, {"tree": "2 300"}], "255")
    assert (plain.names, plain.codes, plain.void) == (("sky", "road", "tree"), ((0,), (7,), (2, 300)), (255,))
    colours = class_list.coded([{"sky": "70,130,180"}, {"road": "128,64,128 0,0,1"}], "0,0,0")
    assert colours.palette == ((70, 130, 180), (128, 64, 128))
    assert (colours.codes, colours.void) == (((0x4682B4,), (0x804080, 1)), (0,))


@pytest.mark.parametrize(
    ("classes", "void", "line"),
    [
        ([{"sky": "70,130,180"}, {"road": 1}], "", "some are codes, others colours"),
        ([{"sky": "70,130,180"}], "255", "some are codes, others colours"),
        (["sky", "sky"], "", "sky is duplicated"),
        (["sky", {"road": 0}], "", "0 is duplicated"),
        (["sky"], "0", "0 is duplicated"),
        ([{"sky": "70,130"}], "", "'70,130' is not a code"),
        ([{"sky": 70000}], "", "'70000' is not a code; write a number up to 65535"),
        ([], "", "must list 1 to 253 classes"),
        ([""], "", "'' is not a class"),
        (["a</script>"], "", "a name does not contain </"),
        (["x" * 201], "", "a name has 1 to 200 letters"),
    ],
)
def test_classes_that_make_no_sense_are_one_line(classes: list[Any], void: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        class_list.coded(classes, void)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_map_is_chosen_by_name() -> None:
    assert class_list.labels(own(classes="bdci2017-final")).names[2] == "building"
    assert class_list.labels(own(classes="voc")).decode(np.array([[20]], np.uint8), "m").tolist() == [[20]]
    with pytest.raises(UserError, match=r"data\.folder\.classes is 'none'; choose from .*bdci2017-preliminary"):
        class_list.labels(own())


# What download makes of it


def test_download_copies_what_the_splits_name_and_resize_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = make(
        tmp_path / "mine",
        {f"images/{n}.jpg": "image" for n in ("ä b", "c", "d")}
        | {f"masks/{n}.png": [3, 9] for n in ("ä b", "d")}
        | {"train.txt": "ä b\n", "val.txt": "c\n"},
    )
    write(folder / "images" / "c.jpg", np.zeros(SIZE, np.uint8), exif=exif)
    write(folder / "masks" / "c.png", np.full(SIZE[::-1], 9, np.uint8))
    (tmp_path / "data/own").mkdir(parents=True)
    folder.rename(tmp_path / "data/own/mine")
    text = (ROOT / "recipes" / "scenes.yaml").read_text()
    values = own(classes=[{"x": 3}, {"y": 9}]).model_dump()
    data = params.check(changed(text, {"data.dataset": "folder", "data.folder": values}), "p").data
    raw = tmp_path / "raw"
    raw.mkdir()
    source.build(data, {}, raw)
    assert sorted(p.name for p in raw.rglob("*.*")) == ["c.jpg", "c.png", "train.txt", "val.txt", "ä b.jpg", "ä b.png"]
    (sample,) = source.samples(raw, "train")
    assert sample.name == "ä b"
    (turned,) = source.samples(raw, "val")
    found = resizing.resize(turned, sources.labels(data), "native", False)
    assert isinstance(found, resizing.Packed)
    assert found.image.shape == (4, 6, 3)
    assert (found.mask == 1).all()
    assert sources.labels(data.model_copy(update={"dataset": "scenes"})).names[0] == "sky"
    assert VOID not in found.mask


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "recipes" / "satellite.yaml").read_text()
    with pytest.raises(UserError, match="data/own/satellite is missing; `dvc checkout`"):
        sources.check(params.check(changed(text, {}), "p").data)
    with pytest.raises(UserError, match="data.folder.name is none; `fcn inspect DIR --adopt NAME`"):
        sources.check(params.check(changed(text, {"data.folder.name": "none"}), "p").data)


def test_lists_are_parted_by_tabs_or_by_blanks(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("i/ä b.png\tm/ä b.png\tx\ni/c d.png\tm/c d.png\n", encoding="utf-8")
    (tmp_path / "val.txt").write_text("i/a.png m/a.png\r\ni/b.png  m/b.png")
    assert [s.name for s in sources.list_samples(tmp_path, "train")] == ["x", "c d"]
    assert [s.mask.name for s in sources.list_samples(tmp_path, "val")] == ["a.png", "b.png"]
