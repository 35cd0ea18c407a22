"""Tables of classes in a folder of one's own: understood as written, or refused; never counted differently."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn.inspection import class_table, inspection
from fcn.inspection.inspection import Inspection

SIZE = (6, 10)
COLOURS = np.array([(0, 0, 0), (200, 30, 30), (30, 30, 200)], np.uint8)
Look = Callable[..., Inspection]


def write(path: Path, mask: Image.Image, i: int) -> None:
    """Image and mask number i of a folder."""
    for name in ("images", "masks"):
        (path / name).mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(i).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path / f"images/{i}.png")
    mask.save(path / f"masks/{i}.png")


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """look("classes.txt", "sky\\nroad", [0, 0, 255]): what inspect finds; each mask's rows repeat the codes."""

    def looked(name: str, table: str | bytes, codes: list[int], **more: str) -> Inspection:
        for i in range(4):
            write(tmp_path, Image.fromarray(np.resize(np.array(codes, np.uint8), SIZE)), i)
        content = {name: table, **more}
        for file, text in content.items():
            (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
        return inspection.inspect(tmp_path)

    return looked


CODED: list[Any] = [{"sky": 3}, {"road": 7}]


@pytest.mark.parametrize(
    "table",
    [
        "sky,3\nroad,7\n",
        "name,code\nsky,3\nroad,7",
        "name;code\r\nsky;3\r\nroad;7\r\n",
        "name\tcode\nsky\t3\nroad\t7",
        "code,name\n3,sky\n7,road",
        "id;class;\n3;sky;\n7;road;\n",
        "class,name\n3,sky\n7,road",
        "3\tsky\n7\troad",
        "# made by hand\n\nsky, 3\n\nroad, 7\n\n",
        "name,code,r,g,b\nsky,3,1,2,3\nroad,7,4,5,6\n",
        "name;code;rgb\nsky;3;1,2,3\nroad;7;4,5,6\n",
        '"sky",3\n"road",7',
        b"\xff\xfe" + "name\tcode\r\nsky\t3\r\nroad\t7\r\n".encode("utf-16-le"),  # a spreadsheet's "Unicode text"
        b"\xef\xbb\xbfname;code\nsky;3\nroad;7",
    ],
)
def test_names_and_codes_are_read_whatever_parts_them(table: str | bytes, look: Look) -> None:
    found = look("classes.csv", table, [3, 7])
    assert found.errors == []
    assert found.params.classes == CODED


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "name{}code\n", "id{}class\n"])
@pytest.mark.parametrize("first", ["void", "unlabeled", "__ignore__", "background", "Background"])
def test_no_class_is_shifted_by_delimiters_headers_void_or_background(
    first: str, header: str, sign: str, look: Look
) -> None:
    rows = [(first, 0), ("sky", 1), ("road", 2)]
    lines = [f"{code}{sign}{name}" if header.startswith("id") else f"{name}{sign}{code}" for name, code in rows]
    found = look("classes.csv", header.format(sign) + "\n".join(lines), [0, 1, 2])
    assert found.errors == []
    if first.lower() == "background":
        assert (found.params.classes, found.params.void) == ([first, "sky", "road"], None)
    else:
        assert (found.params.classes, found.params.void) == ([{"sky": 1}, {"road": 2}], "0")


def test_background_without_a_code_is_the_class_of_its_line(look: Look) -> None:
    assert look("classes.txt", "background\nsky\nroad", [0, 1, 2]).params.classes == ["background", "sky", "road"]
    assert look("classes.txt", "sky\nbackground\nroad", [0, 1, 2]).params.classes == ["sky", "background", "road"]


def test_the_delimiter_and_the_header_that_were_assumed_are_said(look: Look) -> None:
    notes = look("classes.csv", "name;code\nsky;0\nroad;1\n", [0, 1]).notes
    assert "classes.csv is read with semicolons between its columns" in notes
    assert "line 1 of classes.csv, 'name,code', is treated as its header" in notes


@pytest.mark.parametrize("header", ["name", "Class", "classes", "label", "Labels"])
def test_a_header_of_one_column_is_no_class(header: str, look: Look) -> None:
    found = look("classes.csv", f"{header}\nsky\nroad\n", [0, 1])
    assert found.params.classes == ["sky", "road"]
    assert f"line 1 of classes.csv, '{header}', is treated as its header" in found.notes


def test_a_name_that_contains_the_delimiter_is_quoted(look: Look) -> None:
    assert look("classes.csv", '"sky; blue",0\n"road, wet",1\n', [0, 1]).params.classes == ["sky; blue", "road, wet"]


@pytest.mark.parametrize(
    ("table", "classes", "void"),
    [
        ("void\nsky\nroad", [{"sky": 1}, {"road": 2}], "0"),
        ("sky\nUnlabeled\nroad", [{"sky": 0}, {"road": 2}], "1"),
        ("sky\nroad\nvoid", ["sky", "road"], "2"),
    ],
)
def test_a_line_that_says_void_keeps_its_place(table: str, classes: list[Any], void: str, look: Look) -> None:
    found = look("classes.txt", table, [0, 1, 2])
    assert found.errors == []
    assert (found.params.classes, found.params.void) == (classes, void)
    assert any(note.startswith(f"{void} is void: classes.txt calls it ") for note in found.notes)


def test_a_line_that_says_void_is_refused_where_the_masks_do_not_tell_whether_it_counts(look: Look) -> None:
    """With 0, 1 and 255 in the masks, sky could be 0 or 1."""
    (error,) = look("classes.txt", "void\nsky\nroad\n", [0, 1, 255]).errors
    assert error == (
        "classes.txt: 'void' is on line 1 without a code, and no mask holds 2, the code of the last line; "
        "is 'void' counted? write NAME,CODE on every line, such as void,0"
    )


@pytest.mark.parametrize("name", ["class_names.txt", "labels.txt", "Labels.txt"])
def test_labelmes_names_are_read_as_labelme_counts_them(name: str, look: Look) -> None:
    found = look(name, "__ignore__\n_background_\ncat\ndog", [0, 0, 0, 0, 0, 1, 1, 2, 2, 255])
    assert found.errors == []
    assert (found.params.classes, found.params.void) == (["_background_", "cat", "dog"], "255")
    assert f"'__ignore__' of {name} has no code and is skipped" in found.notes


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ("cat\n_background_\ndog", "classes.txt: _background_, code 0 in labelme, is on line 2; put it first, or "),
        ("cat\n__ignore__\ndog", "classes.txt: '__ignore__' is on line 2, not on line 1 as in labelme; "),
        ("1 cat\n2 dog\n", "classes.txt: '1 cat' holds a name and a number; write cat,1"),
        ("1: cat\n2: dog\n", "classes.txt: '1: cat' holds a name and a number; write cat,1"),
        ("cat 1\ndog 2\n", "classes.txt: 'cat 1' holds a name and a number; write cat,1"),
        ("cat: 10 20 30\ndog: 1 2 3", "classes.txt: 'cat: 10 20 30' holds a name and a number; write cat,10,20,30"),
        ("cat\n\ndog", "classes.txt: line 2 is empty; delete it, or write NAME,CODE on every line"),
        ("cat,dog", "classes.txt: line 1 is not NAME, NAME,CODE or NAME,R,G,B: 'cat,dog'; put quotes around"),
        ("cat,1\ndog", "classes.txt: dog has no code, but others have one; write NAME,CODE"),
        ("cat,70000", "classes.txt: line 1 has the code '70000'; a code is a number up to 65535"),
        ("cat," + "9" * 5000, "classes.txt: line 1 has the code '99999999999999999999'; a code is a number up to"),
        ("cat,-1", "classes.txt: line 1 has the code '-1'; a code is a number up to 65535"),
        ("cat,1,2,300", "classes.txt: line 1 has the colour '1,2,300'; a colour is three numbers up to 255"),
        ("c" * 101, "classes.txt: line 1 has a name of 101 characters; at most 100 printable ones are allowed"),
        ("name,shade\ncat,1", "classes.txt: the header 'name,shade' is not understood; write name,code or name,r,g,b"),
        ("name,code\ncat,1,2", "classes.txt: line 2 has 3 cells, the header 2: 'cat,1,2'"),
        (b"Stra\xdfe", "classes.txt is not UTF-8 text (byte 4); save it as UTF-8"),
        ("cat\n" * 20_000, "classes.txt is larger than 64 KiB"),
        ("cat\ncat", "classes.txt: cat is duplicated"),
        ("cat,1\ndog,1", "classes.txt: 1 is duplicated"),
        ("", "classes.txt must list 1 to 253 classes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_table_that_could_mean_two_things_is_refused_by_its_own_name(
    table: str | bytes, error: str, look: Look
) -> None:
    found = look("classes.txt", table, [0, 1, 2])
    assert found.errors[0].startswith(error)
    assert not any("\n" in text or "params.yaml" in text for text in found.errors)


def test_names_that_end_with_numbers_are_names(look: Look) -> None:
    assert look("classes.txt", "class 1\nclass 2\n", [0, 1]).params.classes == ["class 1", "class 2"]


def test_of_two_tables_the_one_that_is_not_read_is_named(look: Look) -> None:
    found = look("classes.csv", "sky\nroad", [0, 1], **{"labels.txt": "a\nb"})
    assert found.params.classes == ["sky", "road"]
    assert "not read, because there is classes.csv: labels.txt" in found.notes


def test_codes_that_a_table_lacks_are_counted_and_listed(look: Look) -> None:
    (error,) = look("classes.txt", "sky\nroad", [0, 1, 77, 77, 77]).errors
    assert error == "1 code not in classes.txt: 77 (144 pixels, first in masks/0.png)"  # 36 of 60 in each of 4


# Black and white


@pytest.mark.parametrize("codes", [[0, 255, 255, 255], [0] * 29 + [255]])
def test_two_names_without_codes_for_masks_of_0_and_255_are_refused_with_the_lines_to_write(
    codes: list[int], look: Look
) -> None:
    (error,) = look("classes.txt", "background\nfibre\n", codes).errors
    assert error.startswith("the masks hold 0 and 255, 255 in ")
    assert error.endswith("; write background,0 and fibre,255 in it")


def test_the_lines_that_inspect_asks_for_are_understood(look: Look) -> None:
    found = look("classes.txt", "background,0\nfibre,255\n", [0, 255])
    assert (found.errors, found.params.classes, found.params.void) == ([], [{"background": 0}, {"fibre": 255}], None)
    found = look("classes.txt", "background\nfibre\nvoid,255\n", [0, 255])
    assert (found.errors, found.params.classes, found.params.void) == ([], ["background", "fibre"], "255")


def test_much_of_255_beside_a_class_in_no_mask_is_refused_and_little_of_it_is_void(look: Look) -> None:
    (error,) = look("classes.txt", "sky\nroad\ntree\ncar", [0, 1, 255]).errors
    assert error.startswith("the masks hold 0, 1 and 255, 255 in 33.3% of the pixels, but classes.txt has no class of")
    assert error.endswith("; write NAME,255 for a class in it, or void,255 if 255 is not a class")
    found = look("classes.txt", "sky\nroad\ntree\ncar", [0] * 10 + [1] * 19 + [255])
    assert (found.errors, found.params.void) == ([], "255")
    assert "255 is not in classes.txt and treated as void, 3.3% of the pixels" in found.notes


def test_much_void_that_nobody_declared_is_a_warning(look: Look) -> None:
    found = look("classes.txt", "sky\nroad", [0, 1, 255])
    assert found.errors == []
    assert "255 is not in classes.txt and treated as void, 33.3% of the pixels" in found.warnings


def test_a_table_of_one_class_is_refused(look: Look) -> None:
    (error,) = look("classes.txt", "fibre\n", [0, 0, 255]).errors
    assert error.startswith("only one class, fibre: any net would score")


def test_masks_of_0_and_255_without_a_table_are_two_classes_with_a_warning(look: Look) -> None:
    found = look("notes.md", "", [0, 255])
    assert (found.params.classes, found.params.void) == ([{"class_0": 0}, {"class_255": 255}], None)
    assert found.warnings[0].startswith("255 IS A CLASS: the masks hold only 0 and 255, so nothing is void; ")
    assert "void,255" not in found.warnings[0]  # which would leave one class


# Colours


def palette(codes: list[int]) -> Image.Image:
    picture = Image.fromarray(np.resize(np.array(codes, np.uint8), SIZE))
    picture.putpalette(COLOURS.ravel().tolist())
    return picture


@pytest.mark.parametrize("header", ["", "name,r,g,b\n"])
def test_palette_masks_are_read_in_colours_if_the_table_has_colours(header: str, tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path, palette([0, 1, 2]), i)
    (tmp_path / "class_dict.csv").write_text(f"{header}cat,30,30,200\nsky,0,0,0\nvoid,200,30,30\n")
    found = inspection.inspect(tmp_path)
    assert found.errors == []
    assert (found.params.classes, found.params.void) == ([{"cat": "30,30,200"}, {"sky": "0,0,0"}], "200,30,30")
    assert found.labels
    assert {code: seen.pixels for code, seen in found.codes.items()} == {0: 80, 0xC81E1E: 80, 0x1E1EC8: 80}


def test_a_table_with_codes_and_colours_reads_palette_masks_by_codes(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path, palette([0, 1, 2]), i)
    (tmp_path / "classes.csv").write_text("name,code,r,g,b\ncat,0,9,9,9\nsky,1,8,8,8\ndog,2,7,7,7\n")
    assert inspection.inspect(tmp_path).params.classes == ["cat", "sky", "dog"]


def test_grey_masks_with_a_table_of_colours_are_refused_with_what_to_write(look: Look) -> None:
    (error,) = look("classes.csv", "cat,30,30,200\nsky,0,0,0\n", [0, 1]).errors
    assert error.startswith("1 colour not in classes.csv: 1,1,1 (120 pixels")
    assert error.endswith("; if these masks hold codes, write NAME,CODE")


def test_a_pipe_is_not_read_as_a_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "classes.csv")
    assert class_table.read(tmp_path / "classes.csv").errors == ["classes.csv is not a regular file"]
