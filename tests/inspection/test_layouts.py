"""Which images and masks `fcn inspect` takes for pairs: the usual layouts, and folders of pictures beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_folders import inspected, make, write

from fcn.inspection import inspection
from fcn.runtime.errors import UserError

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
def test_inspect_finds_the_usual_layouts(patterns: tuple[str, str], tmp_path: Path) -> None:
    files: dict[str, Any] = {}
    for image, mask in LAYOUTS[patterns]:
        for i in range(3):
            files |= {image.format(f"{i:03d}"): "image", mask.format(f"{i:03d}"): [0, 1, 2]}
    found = inspected(make(tmp_path / "mine", files))
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
    folders: tuple[str, ...], expected: tuple[str, str], counts: dict[str, int], tmp_path: Path
) -> None:
    found = inspected(make(tmp_path / "mine", side_by_side(*folders, counts=counts)))
    assert (found.params.images, found.params.masks) == expected
    assert len(found.matches.pairs) == counts.get("image", 4)


def test_pictures_of_one_split_and_masks_of_another_are_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image and mask share a name"):
        inspection.inspect(make(tmp_path / "mine", side_by_side("train/label", "test")))
    found = inspected(make(tmp_path / "mine", {}), images="test/*", masks="train/label/*")  # said by hand, it is
    assert len(found.matches.pairs) == 4


def test_where_another_folder_fits_too_inspect_says_so_and_what_to_type(tmp_path: Path) -> None:
    found = inspected(make(tmp_path / "mine", side_by_side("image", "label", "test")))
    assert found.warnings[0] == (
        "TWO SETS OF IMAGES fit the masks of label/* by name: image/* was chosen, not test/*; "
        "if that is wrong, add --images 'test/*' --masks 'label/*'"
    )


def test_two_folders_of_images_that_fit_the_same_masks_are_refused_and_both_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", side_by_side("raw", "enhanced", "label"))
    with pytest.raises(UserError) as caught:
        inspection.inspect(folder)
    assert "the masks of label/* fit the images of" in str(caught.value)
    for choice in ("raw", "enhanced"):
        assert f"--images '{choice}/*' --masks 'label/*'" in str(caught.value)
        assert inspected(folder, images=f"{choice}/*").params.masks == "label/*"


def test_of_two_folders_of_images_the_one_whose_sizes_are_the_masks_is_taken_and_the_other_named(
    tmp_path: Path,
) -> None:
    folder = make(tmp_path / "mine", side_by_side("raw", "label"))
    for i in range(4):
        write(folder / f"large/{i}.png", np.random.default_rng(i).integers(0, 256, (12, 8), dtype=np.uint8))
    found = inspected(folder)
    assert (found.params.images, found.params.masks) == ("raw/*", "label/*")
    assert "raw/* was chosen, not large/*" in found.warnings[0]


def test_inspect_says_when_nothing_belongs_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name a folder that holds both, or give their paths with --images"):
        inspection.inspect(make(tmp_path / "mine", {"a.png": "image", "b.png": [0]}))
    with pytest.raises(UserError, match="is not a folder"):
        inspection.inspect(Path("nowhere"))
