"""CVAT XML 1.1 for images, drawn as CVAT's own library draws it.

`files/cvat` was written by datumaro 1.13.12's exporter "cvat"; the rotation of one box, and a mask with run lengths by
cvat-sdk (`masks.encode_mask`), were added by hand. `expected/cvat-*.png` is what datumaro makes of the imported file:
`mask_tools.rles_to_mask` of each polygon and box, by ascending z_order in `mask_tools.merge_masks`. datumaro is not
installed here, because it needs 470 MB. It holds coordinates as float32, fcn as float64, which can differ where five
times a coordinate is halfway between two numbers; there are no such coordinates in the file.
"""

from pathlib import Path

import numpy as np
import pytest
from annotated import FILES, converted, drawn, expected, refusal

HEAD = "<annotations><version>1.1</version>"


def test_masks_are_datumaros_pixel_by_pixel() -> None:
    result, masks = converted(FILES / "cvat")
    assert result.params.classes == ["background", "wall", "window", "door"]
    np.testing.assert_array_equal(masks["front"], expected("cvat-front"))
    np.testing.assert_array_equal(masks["sub/back"], expected("cvat-back"))
    assert result.warnings[0].startswith("SKIPPED, because such shapes are not drawn: 1 × polyline, 1 × points;")


def write(folder: Path, text: str) -> Path:
    return drawn(folder, {"a.png": (6, 5), "b.png": (6, 5)}, {"annotations.xml": text})


def image(*shapes: str, name: str = "a.png") -> str:
    return f'{HEAD}<image id="0" name="{name}" width="6" height="5">{"".join(shapes)}</image></annotations>'


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ('<polygon label="x" points="1,1;2,2"/>', "2 points; a polygon has 3 to 100000"),
        ('<polygon label="x" points="1,1;2,2;3"/>', "its points are not of the form x,y;x,y;x,y"),
        ('<polygon label="x" points="1,1;2,2;nan,3"/>', "a coordinate is not finite"),
        ('<polygon label="x" points="1,1;2,2;inf,3"/>', "a coordinate is not finite"),
        ('<polygon label="x" points="1,1;2,2;1e7,3"/>', "the coordinate 1e+07 is far outside the image"),
        ('<polygon points="1,1;2,2;3,3"/>', "has no label"),
        ('<box label="x" xtl="1" ytl="?" xbr="2" ybr="3"/>', "'?' is not a number"),
        ('<box label="x" xtl="1" ytl="1" xbr="2" ybr="3" z_order="high"/>', "'high' is not a whole number"),
        ('<mask label="x" rle="1, 2" left="0" top="0" width="2" height="2"/>', "its runs do not fill 2x2 pixels"),
        ('<mask label="x" rle="1, 3" left="5" top="0" width="2" height="2"/>', "do not fit into the image, 6x5"),
        (f'<mask label="x" rle="1, {9**99}" left="0" top="0" width="2" height="2"/>', "its runs do not fill 2x2"),
        ('<blob label="x"/>', "the shape 'blob' is unknown"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_a_shape_that_cannot_be_drawn_is_refused_in_one_line(shape: str, error: str, tmp_path: Path) -> None:
    said = refusal(write(tmp_path / "mine", image(shape)))
    assert said.startswith("annotations.xml: image 'a.png', shape 1")
    assert error in said


def test_a_video_is_refused_with_what_to_export(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", f'{HEAD}<track id="0" label="x"/></annotations>')
    assert refusal(folder) == "annotations.xml has tracks of a video; export it as 'CVAT for images 1.1'"


LAUGHS = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>{HEAD}&l9;</annotations>', "has a document type"),
        (f'<!DOCTYPE x [<!ENTITY e SYSTEM "/etc/passwd">]>{HEAD}&e;</annotations>', "has a document type"),
        (HEAD + "<a>" * 200, "has elements nested more than 100 levels deep"),
        (HEAD, "is not XML (no element found"),
        (f"<?xml version='1.0' encoding='x-unknown'?>{HEAD}</annotations>", "is not XML (unknown encoding"),
    ],
    ids=["entities", "file", "deep", "cut", "encoding"],
)
def test_entities_and_depth_are_refused_before_they_expand(text: str, error: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", image('<polygon label="x" points="1,1;4,1;4,4"/>'))
    (folder / "more.xml").write_text(text)
    assert refusal(folder).startswith(f"{folder}/more.xml {error}")
