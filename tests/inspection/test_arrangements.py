"""Folders as people and other programs leave them: masks beside images, and PASCAL VOC's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_folders import inspected, make
from PIL import Image

from fcn.datasets import pairing
from fcn.inspection import arrangements, conversion


def test_images_and_masks_in_one_folder_are_paired_by_the_end_of_their_names(tmp_path: Path) -> None:
    files: dict[str, Any] = {}
    for i in range(4):
        files |= {f"{i}.jpg": "image", f"{i}_mask.png": [0, 1, 2]}
    found = inspected(make(tmp_path / "mine", files))
    assert (found.errors, found.params.images, found.params.masks) == ([], "*", "*_mask")
    assert [(pair.image, pair.mask) for pair in found.matches.pairs][:1] == [("0.jpg", "0_mask.png")]


@pytest.mark.parametrize(("image", "mask"), [("jpg", "png"), ("JPG", "png"), ("tif", "png"), ("png", "bmp")])
def test_images_and_masks_that_differ_in_their_suffix_alone_are_paired(image: str, mask: str, tmp_path: Path) -> None:
    files: dict[str, Any] = {"classes.txt": "sky\nroad\ntree\n", "train.txt": "0\n1\n2\n", "val.txt": "3\n"}
    for i in range(4):
        files |= {f"{i}.{image}": "image", f"{i}.{mask}": [0, 1, 2]}
    folder = make(tmp_path / "mine", files)
    with conversion.inspected(folder) as found:
        assert (found.errors, found.parts) == ([], {"train": 3, "val": 1})
        assert found.params.classes == ["sky", "road", "tree"]
        assert f"images are *.{image.lower()}, masks *.{mask} of the same names" in found.notes
        for pair in found.matches.pairs:
            assert pair.image == f"images/{pair.key}.{image}"
            assert (found.folder / pair.mask).read_bytes() == (folder / f"{pair.key}.{mask}").read_bytes()
    assert not found.folder.exists()


@pytest.mark.parametrize("count", [1, 4])
def test_two_copies_of_images_are_no_images_and_masks(count: int, tmp_path: Path) -> None:
    """Neither few of them beside masks, nor all of them, whose colours are as many."""
    files: dict[str, Any] = {f"masks/{i}.png": [0, 1] for i in range(4)}
    files |= {f"images/{i}.png": "image" for i in range(4)} | {f"images/{i}.bmp": "image" for i in range(count)}
    folder = make(tmp_path / "mine", files)
    assert arrangements.find(folder, pairing.files(folder)) is None


@pytest.mark.parametrize("top", ["", "VOCdevkit/VOC2012/"])
def test_a_voc_folder_is_read_with_the_lists_for_segmentation(top: str, tmp_path: Path) -> None:
    """With VOC's palette, 255 for void, masks of objects, boxes, and lists of other tasks under the same names."""
    folder = tmp_path / "mine"
    files: dict[str, Any] = {f"{top}JPEGImages/2007_{i}.jpg": "image" for i in range(9)}
    for kind, train, val in (("Segmentation", "01", "23"), ("Main", "012345", "678"), ("Layout", "5", "6")):
        for split, chosen in (("train", train), ("val", val)):
            files[f"{top}ImageSets/{kind}/{split}.txt"] = "".join(f"2007_{i}\n" for i in chosen)
    files |= {f"{top}Annotations/2007_{i}.xml": "<annotation><object/></annotation>" for i in range(9)}
    make(folder, files)
    palette = [9, 9, 9, 128, 0, 0, 0, 128, 0]
    for i in range(4):
        for kind, codes in (("SegmentationClass", [0, 15, 15, 255]), ("SegmentationObject", [0, 1, 2, 255])):
            mask = Image.fromarray(np.resize(np.array(codes, np.uint8), (6, 4)))
            mask.putpalette(palette + [0] * (768 - len(palette)))
            (folder / top / kind).mkdir(exist_ok=True)
            mask.save(folder / top / kind / f"2007_{i}.png")
    with conversion.inspected(folder) as found:
        assert found.errors == []
        assert found.parts == {"train": 2, "val": 2}
        assert (found.params.classes, found.params.void) == ([{"class_0": 0}, {"class_15": 15}], "255")
        assert {code: stats.pixels for code, stats in found.codes.items()} == {0: 24, 15: 48, 255: 24}
        assert found.notes[0] == (
            "VOC's folders: images of JPEGImages/, masks of SegmentationClass/, splits of ImageSets/Segmentation/; "
            "images without a mask, skipped: 5"
        )
