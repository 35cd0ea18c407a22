"""Pictures of every kind become upright RGB of 8 bits; what names, folders and patterns stand for."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fcn import images
from fcn.errors import UserError


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def first_pixel(path: Path) -> object:
    image = images.open_image(path)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def test_a_photo_that_was_taken_sideways_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture's first row is its right side
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 0, 0), (0, 0, 40, 10))
    for kind in ("jpg", "png", "tif"):
        image = images.open_image(saved(picture, tmp_path / f"a.{kind}", exif=exif))
        assert image.size == (20, 40)
        right, left = np.asarray(image)[20, 15], np.asarray(image)[20, 4]
        assert right[0] > 240
        assert left[0] < 15


def test_sixteen_bits_of_grey_become_eight_by_dividing_by_257(tmp_path: Path) -> None:
    # 128 / 257 = 0.498, 129 / 257 = 0.502, 65406 / 257 = 254.498
    values = np.array([[0, 128, 129, 257, 65406, 65407, 65535]], np.uint16)
    path = saved(Image.fromarray(values), tmp_path / "a.png")
    assert np.asarray(images.open_image(path))[0, :, 1].tolist() == [0, 0, 1, 1, 254, 255, 255]


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (Image.new("RGBA", (2, 2), (10, 20, 30, 0)), "a.png", (10, 20, 30)),
        (Image.new("LA", (2, 2), (10, 0)), "a.png", (10, 10, 10)),
        (Image.new("L", (2, 2), 77), "a.bmp", (77, 77, 77)),
        (Image.new("1", (2, 2), 1), "a.png", (255, 255, 255)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "a.tif", (0, 0, 0)),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "a.tif", (255, 0, 0)),
        (Image.new("RGB", (2, 2), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE), "a.gif", (1, 2, 3)),
        (Image.new("RGB", (2, 2), (1, 2, 3)), "a.webp", (1, 2, 3)),
    ],
)
def test_other_kinds_become_rgb(image: Image.Image, name: str, expected: tuple[int, int, int], tmp_path: Path) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    assert first_pixel(saved(image, tmp_path / name, **options)) == expected


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda p: None, "is missing"),
        (lambda p: p.mkdir(), "cannot be read (Is a directory)"),
        (lambda p: p.write_bytes(b""), "is no picture of a known kind"),
        (lambda p: p.write_text("hello"), "is no picture of a known kind"),
        (lambda p: p.write_bytes(png(10, 10)), "is no whole picture"),
        (lambda p: p.write_bytes(png(3000, 3000)), "is 3000×3000; at most 1000000 pixels are taken"),
        (lambda p: Image.new("F", (2, 2)).save(p, "tiff"), "holds fractions"),
        (lambda p: Image.fromarray(np.full((2, 2), 70000, np.int32)).save(p, "tiff"), "has values outside 0..65535"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(make: Callable[[Path], object], line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(UserError) as caught:
        images.open_image(path, largest=1_000_000)
    assert str(caught.value).startswith(f"{path} {line}")
    assert "\n" not in str(caught.value)


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
        said = images.open_image(io.BytesIO(content), "it", 1_000_000).mode
    except UserError as error:
        said = str(error)
    assert said == "RGB" or (said.startswith("it ") and "\n" not in said)


def test_names_folders_and_patterns_stand_for_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.png", "a/deep/Y.JPG", "a/note.txt", "a/.hidden.png", "a/out/old.png", "b/z.png", "b/[1].png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    found, lost = images.find(["a", "b/[1].png", "b/*.png", "a/x.png", "c.png", "d/*.png", "empty"], Path("a/out"))
    assert [(root.name, file.name) for root, file in found] == [
        ("a", "Y.JPG"),
        ("a", "x.png"),
        ("b", "[1].png"),
        ("b", "z.png"),
    ]
    assert [line.partition(" (")[0] for line in lost] == [
        "c.png is missing",
        "d/*.png is missing",
        "empty holds no pictures",
    ]
