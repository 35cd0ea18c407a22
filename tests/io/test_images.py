"""Any picture as 8-bit RGB, any mask as classes: each rule on pixels worked by hand."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import png
from PIL import Image

from fcn.data.labels import VOID, Labels
from fcn.datasets import resizing
from fcn.datasets.label_maps import BDCI2017_FINAL, BDCI2017_PRELIMINARY
from fcn.datasets.sources import Sample
from fcn.io import images
from fcn.runtime.errors import UserError

NOTHING = (b"IDAT", zlib.compress(b""))  # a picture without pixels
GREY = Labels(("a", "b"), ((0, 0, 0), (9, 9, 9)), (255,), codes=((0,), (7, 300)))
COLOURS = Labels(("a", "b"), ((0, 0, 0), (9, 9, 9)), (0xFFFFFF,), codes=((0x0A141E,), (0x804080,)), colours=True)


def saved(path: Path, pixels: Any, dtype: Any = np.uint8, **how: Any) -> Path:
    Image.fromarray(np.array(pixels, dtype)).save(path, **how)
    return path


# What a viewer shows of a camera's picture [[1, 2, 3], [4, 5, 6]] by its EXIF orientation, from the EXIF standard:
# where the stored first row and first column lie: top left, top right, bottom right, bottom left, left top, …
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_image_is_turned_as_its_exif_orientation_says(orientation: int, ending: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"a.{ending}", [[1, 2, 3], [4, 5, 6]], exif=exif)
    assert images.image(path, upright=True)[..., 0].tolist() == UPRIGHT[orientation]
    if ending == "png":  # Pillow turns each TIFF; no published data set has any
        assert images.image(path)[..., 0].tolist() == UPRIGHT[1]  # as it is stored


def test_a_mask_turns_by_its_own_orientation_and_not_by_its_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = saved(tmp_path / "a.png", [[1, 2, 3], [4, 5, 6]], exif=exif)
    mask = saved(tmp_path / "m.png", [[0, 7], [7, 0], [255, 7]])
    found = resizing.resize(Sample("a", image, mask, upright=True), GREY, "native", False)
    assert isinstance(found, resizing.Packed)
    assert found.image[..., 0].tolist() == UPRIGHT[6]
    assert found.mask.tolist() == [[0, 1], [1, 0], [VOID, 1]]
    turned = saved(tmp_path / "t.png", [[0, 7, 255], [7, 7, 0]], exif=exif)
    assert images.mask(turned, GREY, upright=True).tolist() == [[1, 0], [1, 1], [0, VOID]]


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", [[0, 200]])
    assert images.image(path).tolist() == [[[0, 0, 0], [200, 200, 200]]]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_become_eight_by_the_nearest_of_257ths(tmp_path: Path, ending: str) -> None:
    # 128/257 = 0.498, 129/257 = 0.502, 65406/257 = 254.498, 65407/257 = 254.502
    path = saved(tmp_path / f"a.{ending}", [[0, 128, 129, 257, 65406, 65407, 65535]], np.uint16)
    assert images.image(path)[0, :, 1].tolist() == [0, 0, 1, 1, 254, 255, 255]


def test_alpha_is_dropped_and_leaves_the_colours_as_stored(tmp_path: Path) -> None:
    colours = saved(tmp_path / "a.png", [[[10, 20, 30, 0], [40, 50, 60, 128]]])
    assert images.image(colours).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    Image.fromarray(np.array([[[7, 0], [9, 99]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert images.image(tmp_path / "la.png").tolist() == [[[7, 7, 7], [9, 9, 9]]]


def test_a_palette_image_becomes_its_colours_even_where_it_is_transparent(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([1, 2, 3, 40, 50, 60, 7, 8, 9])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    assert images.image(tmp_path / "a.png").tolist() == [[[1, 2, 3], [40, 50, 60], [7, 8, 9]]]


@pytest.mark.parametrize(
    ("picture", "name", "expected"),
    [
        (Image.new("RGB", (8, 8), (1, 2, 3)), "a.png", (1, 2, 3)),
        (Image.new("RGB", (8, 8), (1, 2, 3)), "a.tif", (1, 2, 3)),
        (Image.new("RGB", (8, 8), (1, 2, 3)), "a.ppm", (1, 2, 3)),
        (Image.new("RGB", (8, 8), (1, 2, 3)), "a.webp", (1, 2, 3)),
        (Image.new("L", (8, 8), 77), "a.bmp", (77, 77, 77)),
        (Image.new("1", (8, 8), 1), "a.png", (255, 255, 255)),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "a.tif", (0, 0, 0)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "a.jpg", (255, 0, 0)),
        (Image.new("RGB", (8, 8), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE), "a.gif", (1, 2, 3)),
    ],
)
def test_every_format_and_mode_becomes_rgb(
    picture: Image.Image, name: str, expected: tuple[int, int, int], tmp_path: Path
) -> None:
    picture.save(tmp_path / name, **{"lossless": True} if name.endswith("webp") else {"quality": 100})
    assert images.image(tmp_path / name)[4, 4].tolist() == list(expected)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda p: None, "is missing"),
        (lambda p: p.mkdir(), "is not a regular file"),
        (lambda p: p.write_bytes(b""), "cannot be decoded (it is none of PNG, JPEG"),
        (lambda p: p.write_text("hello"), "cannot be decoded (it is none of PNG, JPEG"),
        (lambda p: p.write_bytes(png(10, 10, NOTHING)), "cannot be decoded ("),
        (
            lambda p: p.write_bytes(png(3000, 3000, NOTHING)),
            "has more than 1 million pixels; cut it into several files",
        ),
        (lambda p: Image.new("F", (2, 2)).save(p, "tiff"), "holds floating-point numbers"),
        (lambda p: Image.fromarray(np.full((2, 2), 70000, np.int32)).save(p, "tiff"), "holds values outside 0..65535"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(make: Callable[[Path], object], line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(UserError) as caught:
        images.rgb(images.load(path, True, largest=1_000_000), str(path))
    assert str(caught.value).startswith(f"{path} {line}")
    assert "\n" not in str(caught.value)


def test_each_caller_has_a_limit_of_its_own_and_pillows_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png(20_000, 20_000, NOTHING))
    with pytest.raises(UserError, match=r"a\.png has more than 178 million pixels; cut it into several files"):
        images.opened(tmp_path / "a.png")
    assert images.opened(tmp_path / "a.png", largest=1 << 30).size == (20_000, 20_000)
    for suffix in ("png", "tiff"):  # which Pillow asks again as it decodes
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        Image.new("RGB", (40, 30)).save(tmp_path / f"b.{suffix}")
        assert images.load(tmp_path / f"b.{suffix}", True).crop((0, 0, 30, 30)).size == (30, 30)


@given(st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM"]), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_are_a_picture_or_one_line(kind: str, data: st.DataObject) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).save(file, kind)
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        said = images.rgb(images.load(bytes(content), True, "it", 1_000_000), "it").mode
    except UserError as error:
        said = str(error)
    assert said == "RGB" or (said.startswith("it ") and "\n" not in said)


# Masks


def test_codes_of_a_palette_mask_are_its_indices_and_not_its_colours(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 7, 255]], np.uint8))
    mask.putpalette([value for i in range(256) for value in (255 - i, i, 0)])
    mask.save(tmp_path / "m.png")
    assert images.mask(tmp_path / "m.png", GREY).tolist() == [[0, 1, VOID]]


def test_codes_of_a_sixteen_bit_mask_reach_beyond_255(tmp_path: Path) -> None:
    assert images.mask(saved(tmp_path / "m.png", [[0, 300, 7, 255]], np.uint16), GREY).tolist() == [[0, 1, 1, VOID]]


def test_colours_of_a_mask_are_looked_up_in_the_table(tmp_path: Path) -> None:
    pixels = [[[10, 20, 30], [128, 64, 128]], [[255, 255, 255], [10, 20, 30]]]
    assert images.mask(saved(tmp_path / "m.png", pixels), COLOURS).tolist() == [[0, 1], [VOID, 0]]
    alpha = [[[*colour, 0] for colour in row] for row in pixels]
    assert images.mask(saved(tmp_path / "a.png", alpha), COLOURS).tolist() == [[0, 1], [VOID, 0]]
    Image.open(tmp_path / "m.png").quantize(4).save(tmp_path / "p.png")
    assert images.mask(tmp_path / "p.png", COLOURS).tolist() == [[0, 1], [VOID, 0]]


def test_unknown_colours_are_listed_with_pixels_and_first_place(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.png", [[[10, 20, 30], [1, 2, 3]], [[1, 2, 3], [0, 0, 9]]])
    expected = f"{path} has colours that are no class, first at row 0, column 1: 1,2,3 (2 pixels), 0,0,9 (1 pixel)"
    with pytest.raises(UserError) as caught:
        images.mask(path, COLOURS)
    assert str(caught.value) == expected


def test_a_mask_in_colours_needs_a_table(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="mode RGB; a mask holds one code per pixel, or colours if data.folder.classes lists"
    ):
        images.mask(saved(tmp_path / "m.png", [[[10, 20, 30]]]), GREY)


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_a_mask_in_a_lossy_format_is_refused_with_the_reason(tmp_path: Path, ending: str) -> None:
    # By content: a JPEG that is called PNG is one all the same.
    path = saved(tmp_path / f"m.{ending}", np.zeros((8, 8, 3))).rename(tmp_path / "m.png")
    with pytest.raises(UserError, match="with lossy compression, which changes codes; export masks as PNG"):
        images.mask(path, COLOURS)


def test_the_two_codings_of_the_satellite_images_give_the_same_classes(tmp_path: Path) -> None:
    # 0 other, 1 vegetation in both; preliminary 2 road, 3 building, 4 water; final 2 building, 3 water, 4 road.
    first = images.mask(saved(tmp_path / "p.png", [[0, 1, 2, 3, 4]]), BDCI2017_PRELIMINARY)
    final = images.mask(saved(tmp_path / "f.png", [[0, 1, 4, 2, 3]]), BDCI2017_FINAL)
    assert first.tolist() == final.tolist()
    named = [BDCI2017_FINAL.names[i] for i in final[0]]
    assert named == ["other", "vegetation", "road", "building", "water"]
    assert BDCI2017_FINAL.names == BDCI2017_PRELIMINARY.names
