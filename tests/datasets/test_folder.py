"""One's own folder: pairs by name, splits, classes as declared, and what `fcn inspect` says of it."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, changed
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fcn import params
from fcn.data.labels import VOID
from fcn.datasets import class_list, pairing, resizing, sources
from fcn.datasets.sources import folder as source
from fcn.inspection import adoption, inspection, summary
from fcn.runtime.errors import UserError

SIZE = (6, 4)
COLOURS = np.array([(0, 0, 0), (200, 30, 30), (30, 30, 200), (224, 224, 192)], np.uint8)
Make = Callable[..., Path]


def write(path: Path, pixels: Any, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **how)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make({"images/a.jpg": "image", "masks/a.png": [codes…]}): a folder; each mask's rows repeat its codes."""

    def made(files: dict[str, Any]) -> Path:
        rng = np.random.default_rng(0)
        folder = tmp_path / "mine"
        for name, content in files.items():
            if isinstance(content, str) and content == "image":
                write(folder / name, rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
            elif isinstance(content, str):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(content, encoding="utf-8")
            else:
                row = np.resize(np.array(content, content.dtype if isinstance(content, np.ndarray) else np.uint8), SIZE)
                write(folder / name, row)
        return folder

    return made


def coloured(folder: Path, name: str, numbers: list[int]) -> None:
    write(folder / name, COLOURS[np.resize(numbers, SIZE)])


def own(**values: Any) -> params.Folder:
    plain = {"name": "mine", "images": "images/*", "masks": "masks/*", "classes": "none", "void": "none"}
    return params.Folder(**({**plain, "fraction": "none", "seed": 0, "group": "none"} | values))


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


# What inspect says

PLAIN = {f"images/{i}.jpg": "image" for i in range(4)} | {f"masks/{i}.png": [0, 1, 255] for i in range(4)}


def inspected(folder: Path, **patterns: str) -> inspection.Inspection:
    found = inspection.inspect(folder, **patterns)
    assert len(list(summary.report(found))) < 50
    return found


def test_inspect_counts_codes_sizes_and_modes(make: Make) -> None:
    found = inspected(make(PLAIN))
    assert found.errors == []
    assert found.params.classes == ["class_0", "class_1"]
    assert found.params.void == "255"
    assert {code: seen.pixels for code, seen in found.codes.items()} == {0: 32, 1: 32, 255: 32}
    assert found.parts == {"train": 3, "val": 1}
    text = "\n".join(summary.report(found))
    assert "images/*             JPEG RGB (4); 4x6 (4)" in text
    assert "class_1                 33.33%      4" in text
    assert "255 is treated as void" in text


def test_inspect_takes_colours_for_classes_and_vocs_border_for_void(make: Make) -> None:
    folder = make({f"images/{i}.png": "image" for i in range(3)})
    for i in range(3):
        coloured(folder, f"masks/{i}.png", [0, 1, 3])
    found = inspected(folder)
    assert found.params.classes == [{"class_0": "0,0,0"}, {"class_1": "200,30,30"}]
    assert found.params.void == "224,224,192"


def test_inspect_reads_a_table_of_classes_and_lists_what_it_lacks(make: Make) -> None:
    folder = make(
        {f"images/{i}.png": "image" for i in range(3)}
        | {"classes.csv": "name,r,g,b\nsky, 0,0,0\nvoid,30,30,200\nrare,1,1,1\n"}
    )
    coloured(folder, "masks/0.png", [0])
    coloured(folder, "masks/1.png", [0, 1])
    coloured(folder, "masks/2.png", [1, 2])
    found = inspected(folder)
    assert found.params.classes == [{"sky": "0,0,0"}, {"rare": "1,1,1"}]
    assert found.params.void == "30,30,200"
    assert found.errors == ["1 colour not in classes.csv: 200,30,30 (24 pixels, first in masks/1.png)"]
    assert "in no mask: 1 class, rare" in found.warnings


def test_inspect_takes_names_from_a_text_file(make: Make) -> None:
    found = inspected(make(PLAIN | {"classes.txt": "Himmel\nStraße\n"}))
    assert found.params.classes == ["Himmel", "Straße"]
    assert found.errors == []


def test_inspect_takes_black_and_white_for_two_classes(make: Make) -> None:
    found = inspected(make(PLAIN | {f"masks/{i}.png": [0, 255] for i in range(4)}))
    assert found.params.classes == [{"class_0": 0}, {"class_255": 255}]
    assert found.params.void is None


def test_inspect_counts_sixteen_bit_masks_and_says_how_sixteen_bit_images_are_converted(make: Make) -> None:
    files = {f"images/{i}.png": np.arange(24, dtype=np.uint16) * 2000 for i in range(3)}
    found = inspected(make(files | {f"masks/{i}.png": np.array([5, 1000], np.uint16) for i in range(3)}))
    assert found.params.classes == [{"class_5": 5}, {"class_1000": 1000}]
    assert "16-bit greyscale, converted to 8-bit RGB by round(v / 257): 3 images" in found.notes


def test_inspect_names_what_is_broken_or_alone(make: Make) -> None:
    folder = make(PLAIN | {"images/9.jpg": "image", "masks/8.png": [0], "images/1.jpg": "no picture"})
    write(folder / "masks" / "2.png", np.zeros((3, 5), np.uint8))
    (folder / "masks" / "3.png").unlink()
    write(folder / "masks" / "3.jpg", np.zeros(SIZE, np.uint8))
    found = inspected(folder)
    first, second, third = found.errors
    assert first.startswith("images/1.jpg cannot be decoded (")
    assert second == "masks/2.png is 5x3, its image images/2.jpg is 4x6"
    assert third == "masks/3.jpg is a JPEG with lossy compression, which changes codes; export masks as PNG"
    assert "images without a mask, skipped: 1, images/9.jpg" in found.notes
    assert "masks without an image, skipped: 1, masks/8.png" in found.notes


def test_inspect_refuses_masks_with_soft_edges(make: Make) -> None:
    folder = make({f"images/{i}.png": "image" for i in range(3)} | {"classes.txt": "a\nb"})
    (folder / "classes.txt").unlink()
    for i in range(3):
        soft = np.stack([np.arange(24).reshape(SIZE) + 24 * i] * 3, 2).astype(np.uint8)
        write(folder / "masks" / f"{i}.png", soft)
    found = inspected(folder, images="images/*", masks="masks/*")
    assert found.errors[0].startswith("72 unknown colours in the masks, such as ")
    assert "drawn with soft edges, saved in a lossy format, or images instead of masks?" in found.errors[0]


LAYOUTS = {
    ("photos/*", "truth/*"): [("photos/{}.jpg", "truth/{}.png")],
    ("*", "*_class"): [("{}.png", "{}_class.png")],
    ("image_*", "mask_*"): [("image_{}.png", "mask_{}.png")],
    ("*/images/*", "*/labels/*"): [(f"{s}/images/{{}}.png", f"{s}/labels/{{}}.png") for s in ("train", "valid")],
    ("left/*_leftImg8bit", "fine/*_fine_labelIds"): [
        (f"left/{s}/x/x_{{}}_leftImg8bit.png", f"fine/{s}/x/x_{{}}_fine_labelIds.png") for s in ("train", "val")
    ],
}


@pytest.mark.parametrize("patterns", LAYOUTS)
def test_inspect_finds_the_usual_layouts(patterns: tuple[str, str], make: Make) -> None:
    files: dict[str, Any] = {}
    for image, mask in LAYOUTS[patterns]:
        for i in range(3):
            files |= {image.format(f"{i:03d}"): "image", mask.format(f"{i:03d}"): [0, 1, 2]}
    found = inspected(make(files))
    assert (found.params.images, found.params.masks) == patterns
    assert found.errors == []
    assert len(found.matches.pairs) == 3 * len(LAYOUTS[patterns])


def side_by_side(*folders: str, counts: dict[str, int] | None = None) -> dict[str, Any]:
    """Grey pictures in each folder, with numbers for names; masks in those that end in label."""
    rng = np.random.default_rng(0)
    return {
        f"{folder}/{i}.png": [0, 255] if folder.endswith("label") else rng.integers(0, 256, 24, dtype=np.uint8)
        for folder in folders
        for i in range((counts or {}).get(folder, 4))
    }


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train/image", "train/label", "test"), ("*/image/*", "*/label/*")),
        (("image", "label", "test"), ("image/*", "label/*")),
    ],
)
@pytest.mark.parametrize("counts", [{}, {"test": 9, "image": 3, "train/image": 3}])
def test_numbered_pictures_of_a_test_folder_are_never_paired_with_masks_of_others(
    folders: tuple[str, ...], expected: tuple[str, str], counts: dict[str, int], make: Make
) -> None:
    found = inspected(make(side_by_side(*folders, counts=counts)))
    assert (found.params.images, found.params.masks) == expected
    assert len(found.matches.pairs) == counts.get("image", 4)


def test_pictures_of_one_split_and_masks_of_another_are_no_pairs(make: Make) -> None:
    with pytest.raises(UserError, match="no image and mask share a name"):
        inspection.inspect(make(side_by_side("train/label", "test")))
    found = inspected(make({}), images="test/*", masks="train/label/*")  # said by hand, it is
    assert len(found.matches.pairs) == 4


def test_where_another_folder_fits_too_inspect_says_so_and_what_to_type(make: Make) -> None:
    found = inspected(make(side_by_side("image", "label", "test")))
    assert found.warnings[0] == (
        "TWO SETS OF IMAGES fit the masks of label/* by name: image/* was chosen, not test/*; "
        "if that is wrong, add --images 'test/*' --masks 'label/*'"
    )


def test_two_folders_of_images_that_fit_the_same_masks_are_refused_and_both_named(make: Make) -> None:
    folder = make(side_by_side("raw", "enhanced", "label"))
    with pytest.raises(UserError) as caught:
        inspection.inspect(folder)
    assert "the masks of label/* fit the images of" in str(caught.value)
    for choice in ("raw", "enhanced"):
        assert f"--images '{choice}/*' --masks 'label/*'" in str(caught.value)
        assert inspected(folder, images=f"{choice}/*").params.masks == "label/*"


def test_of_two_folders_of_images_the_one_whose_sizes_are_the_masks_is_taken_and_the_other_named(make: Make) -> None:
    folder = make(side_by_side("raw", "label"))
    for i in range(4):
        write(folder / f"large/{i}.png", np.random.default_rng(i).integers(0, 256, (12, 8), dtype=np.uint8))
    found = inspected(folder)
    assert (found.params.images, found.params.masks) == ("raw/*", "label/*")
    assert "raw/* was chosen, not large/*" in found.warnings[0]


def test_inspect_says_when_nothing_belongs_together(make: Make) -> None:
    with pytest.raises(UserError, match="name a folder that holds both, or give their paths with --images"):
        inspection.inspect(make({"a.png": "image", "b.png": [0]}))
    with pytest.raises(UserError, match="is not a folder"):
        inspection.inspect(Path("nowhere"))


# The recipe, and what download makes of it


def test_the_recipe_is_complete_and_differs_where_the_folder_does(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = inspected(make(PLAIN | {"classes.csv": "Straße\nyes: no\n"}))
    experiment = params.check(params.parse(adoption.recipe(found, "mine"), "x"), "x")
    assert experiment.data.dataset == "folder"
    assert experiment.data.folder == own(classes=["Straße", "yes: no"], void="255", fraction=0.2)
    default = params.load(ROOT / "recipes" / "scenes.yaml")
    assert (experiment.model, experiment.train) == (default.model, default.train)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(640, 480)], {"data.size.train": 256, "data.crop": "224x224", "evaluate.size": "native"}),
        ([(4032, 3024), (3024, 4032)], {"data.size.train": 256, "data.crop": "224x224", "evaluate.size": "input"}),
        ([(128, 96)], {"data.size.train": "native", "data.crop": "none"}),
        ([(128, 96), (96, 120)], {"data.size.train": "native", "data.crop": "96x96"}),
        ([(8000, 8000)], {"data.size.train": "native", "data.tile": "512x512", "data.overlap": 64}),
    ],
)
def test_sizes_suit_the_images(sizes: list[tuple[int, int]], expected: dict[str, Any], make: Make) -> None:
    found = inspected(make(PLAIN))
    found.scans = [inspection.ScannedPair(image=inspection.ImageInfo("JPEG", "RGB", size, False)) for size in sizes]
    assert expected.items() <= adoption.sizes(found).items()


def striped(folder: Path, width: int) -> inspection.Inspection:
    """Four images of 512×512 whose masks are upright stripes of two classes, so wide."""
    rng = np.random.default_rng(0)
    mask = np.broadcast_to(np.arange(512) // width % 2, (512, 512)).astype(np.uint8)
    for i in range(4):
        write(folder / f"images/{i}.png", rng.integers(0, 256, (512, 512, 3), dtype=np.uint8))
        write(folder / f"masks/{i}.png", mask)
    return inspected(folder)


def test_images_whose_masks_hold_thin_structures_stay_in_their_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = striped(tmp_path, 8)
    # Native each block of 8 pixels lies in one stripe. At 256 a stripe has 4, a block half of either class, and the
    # lower wins: of class 0 half of the union is right, of class 1 nothing.
    assert found.bounds["native"] == 1
    assert found.bounds[256] == pytest.approx(0.25)
    monkeypatch.chdir(ROOT)
    expected = {"data.size.train": "native", "data.crop": "224x224", "evaluate.size": "native"}
    assert expected.items() <= adoption.sizes(found).items()
    bounds, costs = adoption.costs(found)
    assert bounds.startswith("mean IU by size, one prediction per 8 pixels: 512 -> 256: at most 25, 512 -> 384: at ")
    assert bounds.endswith("native: at most 100; chosen: native")
    assert re.fullmatch(
        r"estimated time here: training on 224x224 .+, scoring an image .+ s at 256, .+ at 384, .+ at native",
        costs,
    )


def test_images_whose_masks_lose_nothing_are_made_small(tmp_path: Path) -> None:
    found = striped(tmp_path, 64)
    assert found.bounds == {256: 1, 384: 1, "native": 1}
    expected = {"data.size.train": 256, "data.crop": "none", "evaluate.size": "native"}
    assert expected.items() <= adoption.sizes(found).items()


def test_download_copies_what_the_splits_name_and_resize_reads_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = make(
        {f"images/{n}.jpg": "image" for n in ("ä b", "c", "d")}
        | {f"masks/{n}.png": [3, 9] for n in ("ä b", "d")}
        | {"train.txt": "ä b\n", "val.txt": "c\n"}
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
