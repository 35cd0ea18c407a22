"""Label Studio's JSON export: polygons by COCO's rule, brushes as Label Studio's own decoder reads them.

`files/label_studio/brushes.json` holds run lengths made by label-studio-converter 0.0.59 (`brush.encode_rle`), and
`expected/label_studio-brush*.png` what its `brush.decode_rle` makes of them: where alpha, the fourth channel, is not 0.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import FILES, converted, drawn, expected, refusal
from pycocotools import mask as rle

SIZE = (40, 30)  # width, height


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    return {"type": kind, "original_width": 40, "original_height": 30, "value": {kind: [label]} | value}


def task(name: str, *regions: dict[str, Any], **annotation: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": name}, "annotations": [{"id": 2, "result": list(regions)} | annotation]}


def write(folder: Path, *tasks: dict[str, Any]) -> Path:
    return drawn(folder, {"photos/a.png": SIZE, "photos/b.png": SIZE}, {"export.json": json.dumps(tasks)})


TRIANGLE = [[10.0, 10.0], [85.5, 20.25], [50, 110]]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools' decode
def test_polygons_and_rectangles_in_per_cent_are_drawn_as_pycocotools_draws_them(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "mine",
        task(
            "/data/upload/3/0a1b2c3d-a.png",
            region("polygonlabels", "roof", points=TRIANGLE),
            region("rectanglelabels", "door", x=50, y=50, width=25, height=40, rotation=90),
            region("keypointlabels", "roof", x=1, y=1, width=1),
        ),
        task("/data/local-files/?d=photos/b.png"),
    )
    result, masks = converted(folder)
    outline = [[x * 0.4, y * 0.3] for x, y in TRIANGLE]
    truth = 2 * rle.decode(rle.frPyObjects([np.ravel(outline).tolist()], 30, 40))[..., 0]
    # Turned by 90 degrees around its upper left corner at 20,15: 12 pixels to the left, 10 down.
    truth[15:25, 8:20] = 1
    np.testing.assert_array_equal(masks["a"], truth)
    assert not masks["b"].any()
    assert result.params.classes == ["background", "door", "roof"]
    assert result.warnings[0].startswith("SKIPPED, because such shapes are not drawn: 1 × keypointlabels;")


def test_brushes_are_those_of_label_studios_decoder_pixel_by_pixel(tmp_path: Path) -> None:
    shutil.copytree(FILES / "label_studio", tmp_path / "mine")
    drawn(tmp_path / "mine", {"a.png": SIZE, "b.png": SIZE}, {})
    result, masks = converted(tmp_path / "mine")
    assert result.params.classes == ["background", "moss", "stone"]
    first, second = expected("label_studio-brush1") != 0, expected("label_studio-brush2") != 0
    np.testing.assert_array_equal(masks["a"], np.where(second, 1, np.where(first, 2, 0)))
    np.testing.assert_array_equal(masks["b"], np.where(first, 2, 0))


def test_the_ground_truth_is_read_cancelled_annotations_are_not_and_both_are_said(tmp_path: Path) -> None:
    full = {"x": 0, "y": 0, "width": 100, "height": 100}
    several = task("a.png", region("rectanglelabels", "door", **full))
    several["annotations"] += [
        {"result": [region("rectanglelabels", "roof", **full)], "ground_truth": True},
        {"result": [region("rectanglelabels", "roof", **full)], "was_cancelled": True},
    ]
    cancelled = task("b.png", region("rectanglelabels", "door", **full), was_cancelled=True)
    result, masks = converted(write(tmp_path / "mine", several, cancelled))
    assert list(masks) == ["a"]
    assert result.codes.keys() == {1}
    assert "tasks without a finished annotation, skipped: 1" in result.notes
    assert "tasks with several annotations: 1; the ground truth was read, or else the first" in result.notes


def brush(rle: list[int]) -> dict[str, Any]:
    return {"type": "brushlabels", "value": {"brushlabels": ["a"], "rle": rle}}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (brush([0, 0, 18, 192]), "its run lengths end too early"),
        (brush([255] * 99), "its run lengths are not those of an RGBA image of 40x30"),
        (brush([256]), "a brush without run lengths in bytes"),
        ({"value": {"polygonlabels": ["a", "b"], "points": TRIANGLE}}, "has 2 labels, such as 'b'; a pixel has one"),
        ({"value": {"polygonlabels": ["a"], "points": TRIANGLE[:2]}}, "2 points; a polygon has 3 to 100000"),
        ({"value": {"polygonlabels": ["a"], "points": [[1, 1e300]] * 3}}, "the coordinate 3e+299 is far outside"),
        ({"original_width": None}, "has no original_width and original_height"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_a_region_that_cannot_be_drawn_is_refused_in_one_line(
    change: dict[str, Any], error: str, tmp_path: Path
) -> None:
    wrong = region("polygonlabels", "a", points=TRIANGLE) | change
    said = refusal(write(tmp_path / "mine", task("a.png", wrong)))
    assert said.startswith("export.json: task 1, region 1")
    assert error in said
