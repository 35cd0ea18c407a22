"""A folder of TIFFs with more bands than Pillow reads."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fcn.inspection import adoption
from fcn.inspection.inspection import inspect


def folder(root: Path, bands: int) -> Path:
    rng = np.random.default_rng(0)
    for i in range(12):
        mask = rng.integers(0, 2, (16, 24), np.uint8)
        pixels = rng.integers(0, 4000, (bands, 16, 24), np.uint16)
        pixels[bands - 1] += mask * np.uint16(40000)
        for kind in ("images", "masks"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / "images" / f"i{i}.tif", pixels, photometric="minisblack", planarconfig="separate")
        Image.fromarray(mask).save(root / "masks" / f"i{i}.png")
    return root


@pytest.mark.parametrize("bands", [5, 12])
def test_images_of_many_bands_are_found_and_the_recipe_takes_all_bands(tmp_path: Path, bands: int) -> None:
    result = inspect(folder(tmp_path / "mine", bands))
    assert result.errors == []
    assert (result.params.images, result.params.masks) == ("images/*", "masks/*")
    assert {info.size for info in result.images()} == {(24, 16)}
    assert any(f"{bands} bands, all of which the net sees" in note for note in result.notes)
    assert adoption.changes(result, "mine")["data.inputs"] == "bands"


def test_the_same_image_of_many_bands_in_two_splits_is_found(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine", 5)
    (root / "images" / "i1.tif").write_bytes((root / "images" / "i0.tif").read_bytes())
    (root / "train.txt").write_text("i0\n" + "\n".join(f"i{i}" for i in range(2, 12)))
    (root / "val.txt").write_text("i1")
    assert any("the same image is in both splits" in error for error in inspect(root).errors)
