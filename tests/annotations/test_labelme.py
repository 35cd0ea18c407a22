"""LabelMe files: drawn as labelme draws them, and adopted.

`files/labelme` was written by labelme 6.3.1 (`LabelFile.save`) and `expected/labelme-*.png` are the classes of its
`utils.shapes_to_label` (with Pillow 13.0.0) for the codes 255, 0, 1, 2, 3 in the order of labels.txt, without the line
and the point. labelme itself is not installed here, because it needs Qt and onnxruntime.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import FILES, converted, drawn, expected, refusal
from conftest import Checkout
from PIL import Image

from fcn import params
from fcn.annotations import shapes
from fcn.inspection import conversion, summary


def test_masks_are_labelmes_own_pixel_by_pixel() -> None:
    result, masks = converted(FILES / "labelme")
    assert result.errors == []
    assert result.params.classes == ["_background_", "car", "road", "tree"]
    assert result.params.void == "255"
    for name in ("yard", "gate"):
        np.testing.assert_array_equal(masks[name], expected(f"labelme-{name}"))


def test_the_report_names_the_folder_the_rule_and_what_has_no_area() -> None:
    result, _ = converted(FILES / "labelme")
    text = list(summary.report(result))
    assert text[0] == f"{FILES / 'labelme'}: 2 images with masks"
    assert (
        "note: 10 shapes of 2 LabelMe files drawn as masks, later shapes over earlier ones; pixels without a shape are "
        "background"
    ) in text
    (skipped,) = [line for line in text if "SKIPPED" in line]
    assert skipped.startswith("warning: SKIPPED, because such shapes are not drawn: 1 × point, 1 × line;")


@pytest.mark.slow
def test_the_adopted_masks_are_labelmes_own_and_the_recipe_is_of_them(checkout: Checkout) -> None:
    checkout.run("fcn", "inspect", str(FILES / "labelme"), "--adopt", "yard")
    own = checkout.folder / "data/own/yard"
    for name in ("yard", "gate"):
        mask = np.asarray(Image.open(own / f"masks/{name}.png"))
        np.testing.assert_array_equal(mask, expected(f"labelme-{name}"))
        assert (own / f"images/{name}.png").read_bytes() == (FILES / f"labelme/{name}.png").read_bytes()
    recipe = params.load(checkout.folder / "recipes/own-yard.yaml").data.folder
    assert (recipe.images, recipe.masks, recipe.void) == ("images/*", "masks/*", "255")
    assert list((checkout.folder / ".fcn").glob("annotations*")) == []
    with Image.open(checkout.folder / ".fcn/inspect.png") as shown:
        assert min(shown.size) > 47


def test_without_labels_txt_classes_are_sorted_by_name_and_background_is_0(tmp_path: Path) -> None:
    shutil.copytree(FILES / "labelme", tmp_path / "mine")
    (tmp_path / "mine/labels.txt").unlink()
    result, masks = converted(tmp_path / "mine")
    assert result.params.classes == ["_background_", "car", "road", "tree"]
    np.testing.assert_array_equal(masks["gate"], expected("labelme-gate"))


SQUARE = [[1, 1], [4, 1], [4, 3], [1, 3]]


def write(folder: Path, *shapes: dict[str, Any], **values: Any) -> Path:
    content = {"imagePath": "a.png", "imageWidth": 6, "imageHeight": 5, "shapes": shapes} | values
    return drawn(folder, {"a.png": (6, 5)}, {"a.json": json.dumps(content)})


def test_a_later_shape_covers_an_earlier_one(tmp_path: Path) -> None:
    """By hand: Pillow's polygon has its outline, so a square from 1 to 4 has four columns."""
    folder = write(
        tmp_path / "mine",
        {"label": "cat", "points": SQUARE},
        {"label": "dog", "points": [[3, 2], [9, 9]], "shape_type": "rectangle"},
    )
    _, masks = converted(folder)
    assert masks["a"].tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 2, 2, 2],
        [0, 1, 1, 2, 2, 2],
        [0, 0, 0, 2, 2, 2],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ({"points": [[1, 1], [2, 2]]}, "a.json: shape 1 (cat): 2 points; a polygon has 3 to 50"),
        ({"points": [[0, 0]] * 51}, "a.json: shape 1 (cat): 51 points; a polygon has 3 to 50"),
        ({"points": [[0, 0], [1, 1], [1, 1e9]]}, "a.json: shape 1 (cat): the coordinate 1e+09 is far outside"),
        ({"points": [[0, 0], [1, 1], [1, 1e999]]}, "a.json: shapes.0.points.2.1 'inf': Input should be a finite"),
        ({"points": [[0, 0], [9e4, 9e4]] * 20}, "a.json: shape 1 (cat): its outline is longer than 5000000 pixels"),
        ({"points": [["a", 0]]}, "a.json: shapes.0.points.0.0 'a': Input should be a valid number"),
        ({"points": SQUARE, "shape_type": "cuboid"}, "a.json: shape 1 (cat): the shape 'cuboid' is unknown"),
        ({"points": SQUARE, "shape_type": "circle"}, "a.json: shape 1 (cat): a circle has 2 points, not 4"),
        ({"points": SQUARE[:2], "shape_type": "mask", "mask": "?"}, "a.json: shape 1 (cat): its mask is not base64"),
        ({"points": SQUARE[:2], "shape_type": "mask"}, "a.json: shape 1 (cat) cannot be decoded (it is none of PNG"),
        ({"points": SQUARE, "label": "a\nb"}, "the class 'a\\nb' of LabelMe is not a name of up to 100 printable"),
        ({"points": SQUARE, "label": "#1"}, "the class '#1' of LabelMe is not a name of up to 100 printable"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_shape_that_cannot_be_drawn_is_refused_in_one_line(
    shape: dict[str, Any], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "MAX_POINTS", 50)
    content = json.dumps({"imagePath": "a.png", "shapes": [{"label": "cat"} | shape]}).replace("Infinity", "1e999")
    assert refusal(drawn(tmp_path / "mine", {"a.png": (6, 5)}, {"a.json": content})).startswith(error)


def test_a_label_that_labels_txt_lacks_is_refused_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", {"label": "cta", "points": SQUARE})
    (folder / "labels.txt").write_text("__ignore__\n_background_\ncat\n")
    assert refusal(folder) == "a.json: shape 1 (cta): 'cta' is not in labels.txt; add it, or correct the label"


def test_an_image_of_another_size_than_annotated_is_an_error(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", {"label": "cat", "points": SQUARE}, imageWidth=5, imageHeight=6)
    assert refusal(folder) == "a.json was made for a.png of 5x6; the image is 6x5"


def test_masks_beside_annotations_are_named_and_can_be_chosen(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", {"label": "cat", "points": SQUARE})
    Image.fromarray(np.resize(np.array([0, 3], np.uint8), (5, 6))).save(folder / "a_mask.png")
    with conversion.inspected(folder) as result:
        assert result.params.classes == ["background", "cat"]
        assert result.warnings[0] == (
            "MASKS BESIDE ANNOTATIONS: those of LabelMe were read, not the masks of *_mask; if that is wrong, add "
            "--images '*' --masks '*_mask'"
        )
    with conversion.inspected(folder, "*", "*_mask") as result:
        assert result.params.classes == [{"class_0": 0}, {"class_3": 3}]


@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd", "b.png", "..\\b.png"])
def test_an_image_outside_the_folder_is_never_opened(path: str, tmp_path: Path) -> None:
    drawn(tmp_path, {"b.png": (6, 5)}, {})
    folder = write(tmp_path / "mine", {"label": "cat", "points": SQUARE}, imagePath=path)
    assert refusal(folder).endswith("put images and annotations into one folder")


@pytest.mark.parametrize("path", ["..\\photos\\a.png", "../photos/a.png", "C:\\Users\\me\\photos\\a.png", "a.png"])
def test_images_are_found_by_the_end_of_their_path(path: str, tmp_path: Path) -> None:
    content = {"imagePath": path, "shapes": [{"label": "cat", "points": SQUARE}]}
    folder = drawn(tmp_path / "mine", {"photos/a.png": (6, 5)}, {"labels/a.json": json.dumps(content)})
    _, masks = converted(folder)
    assert masks["a"].sum() == 12


def test_an_image_annotated_twice_is_refused_and_one_file_can_be_chosen(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", {"label": "cat", "points": SQUARE})
    (folder / "b.json").write_text((folder / "a.json").read_text())
    assert refusal(folder) == ("a.png is annotated in a.json and again in b.json; choose with --annotations 'PATTERN'")
    with conversion.inspected(folder, pattern="b.*") as result:
        assert result.params.classes == ["background", "cat"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[" * 100_000, "is nested too deeply"),
        ('{"shapes": [], "imagePath": "a.png", "x": NaN}', "is not JSON (NaN is not a number)"),
        ('{"shapes": [', "is not JSON (Expecting value"),
        (f'{{"x": {"9" * 5000}}}', "is not JSON (Exceeds the limit"),
    ],
    ids=["deep", "nan", "cut", "digits"],
)
def test_a_damaged_file_among_annotations_is_refused_and_alone_it_is_ignored(
    text: str, error: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "mine", {"label": "cat", "points": SQUARE})
    (folder / "z.json").write_text(text)
    assert refusal(folder).startswith(f"{folder}/z.json {error}")
    (folder / "a.json").unlink()
    assert "no image and mask share a name" in refusal(folder)
