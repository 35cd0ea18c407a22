"""What `fcn inspect` finds in images and masks: classes, colours, sizes, and files that are broken or alone."""

from pathlib import Path

import numpy as np
from own_folders import PLAIN, SIZE, coloured, inspected, make, write

from fcn.inspection import summary


def test_inspect_counts_codes_sizes_and_modes(tmp_path: Path) -> None:
    found = inspected(make(tmp_path / "mine", PLAIN))
    assert found.errors == []
    assert found.params.classes == ["class_0", "class_1"]
    assert found.params.void == "255"
    assert {code: seen.pixels for code, seen in found.codes.items()} == {0: 32, 1: 32, 255: 32}
    assert found.parts == {"train": 3, "val": 1}
    text = "\n".join(summary.report(found))
    assert "images/*             JPEG RGB (4); 4x6 (4)" in text
    assert "class_1                 33.33%      4" in text
    assert "255 is treated as void" in text


def test_inspect_takes_colours_for_classes_and_vocs_border_for_void(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", {f"images/{i}.png": "image" for i in range(3)})
    for i in range(3):
        coloured(folder, f"masks/{i}.png", [0, 1, 3])
    found = inspected(folder)
    assert found.params.classes == [{"class_0": "0,0,0"}, {"class_1": "200,30,30"}]
    assert found.params.void == "224,224,192"


def test_inspect_reads_a_table_of_classes_and_lists_what_it_lacks(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "mine",
        {f"images/{i}.png": "image" for i in range(3)}
        | {"classes.csv": "name,r,g,b\nsky, 0,0,0\nvoid,30,30,200\nrare,1,1,1\n"},
    )
    coloured(folder, "masks/0.png", [0])
    coloured(folder, "masks/1.png", [0, 1])
    coloured(folder, "masks/2.png", [1, 2])
    found = inspected(folder)
    assert found.params.classes == [{"sky": "0,0,0"}, {"rare": "1,1,1"}]
    assert found.params.void == "30,30,200"
    assert found.errors == ["1 colour not in classes.csv: 200,30,30 (24 pixels, first in masks/1.png)"]
    assert "in no mask: 1 class, rare" in found.warnings


def test_inspect_takes_names_from_a_text_file(tmp_path: Path) -> None:
    found = inspected(make(tmp_path / "mine", PLAIN | {"classes.txt": "Himmel\nStraße\n"}))
    assert found.params.classes == ["Himmel", "Straße"]
    assert found.errors == []


def test_inspect_takes_black_and_white_for_two_classes(tmp_path: Path) -> None:
    found = inspected(make(tmp_path / "mine", PLAIN | {f"masks/{i}.png": [0, 255] for i in range(4)}))
    assert found.params.classes == [{"class_0": 0}, {"class_255": 255}]
    assert found.params.void is None


def test_inspect_counts_sixteen_bit_masks_and_says_how_sixteen_bit_images_are_converted(tmp_path: Path) -> None:
    files = {f"images/{i}.png": np.arange(24, dtype=np.uint16) * 2000 for i in range(3)}
    found = inspected(
        make(tmp_path / "mine", files | {f"masks/{i}.png": np.array([5, 1000], np.uint16) for i in range(3)})
    )
    assert found.params.classes == [{"class_5": 5}, {"class_1000": 1000}]
    assert "16-bit greyscale, converted to 8-bit RGB by round(v / 257): 3 images" in found.notes


def test_inspect_names_what_is_broken_or_alone(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "mine", PLAIN | {"images/9.jpg": "image", "masks/8.png": [0], "images/1.jpg": "no picture"}
    )
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


def test_inspect_refuses_masks_with_soft_edges(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", {f"images/{i}.png": "image" for i in range(3)} | {"classes.txt": "a\nb"})
    (folder / "classes.txt").unlink()
    for i in range(3):
        soft = np.stack([np.arange(24).reshape(SIZE) + 24 * i] * 3, 2).astype(np.uint8)
        write(folder / "masks" / f"{i}.png", soft)
    found = inspected(folder, images="images/*", masks="masks/*")
    assert found.errors[0].startswith("72 unknown colours in the masks, such as ")
    assert "drawn with soft edges, saved in a lossy format, or images instead of masks?" in found.errors[0]
