"""Tiles of rasters and of images: sizes and places by hand, and every pixel answered for once."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import packed_split
from PIL import Image

from fcn.data import tiles
from fcn.data.labels import VOID, Labels
from fcn.data.split import Role, Split
from fcn.data.tiles import Span, Tiling
from fcn.datasets import packing
from fcn.datasets.sources import Sample
from fcn.params import Size
from fcn.runtime.errors import UserError

LABELS = Labels(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def test_a_raster_of_ten_by_six_in_tiles_of_four_with_one_shared() -> None:
    # Along 10: tiles of 4 that share at least 1 need 3: they begin at 0, 3, 6, share 1, and part at 3.5 and 6.5.
    # Along 6: 2 tiles, at 0 and 2, share 2 and part in its middle, at 3.
    found = list(tiles.windows(10, 6, Tiling(4, 4, 1)))
    columns = [Span(0, 4, 0, 3), Span(3, 7, 3, 6), Span(6, 10, 6, 10)]
    assert found == [(rows, span) for rows in (Span(0, 4, 0, 3), Span(2, 6, 3, 6)) for span in columns]


def test_a_raster_that_fits_into_a_tile_stays_whole() -> None:
    assert list(tiles.windows(4, 3, Tiling(4, 4, 1))) == [(Span(0, 3, 0, 3), Span(0, 4, 0, 4))]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.data())
def test_tiles_have_one_size_share_enough_and_answer_for_each_pixel_once(
    width: int, height: int, tile_width: int, tile_height: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, min(tile_width, tile_height) - 1))
    answered = np.zeros((height, width), int)
    found = list(tiles.windows(width, height, Tiling(tile_width, tile_height, overlap)))
    for rows, columns in found:
        for span, length, tile in ((rows, height, tile_height), (columns, width, tile_width)):
            assert span.stop - span.start == min(length, tile)
            assert 0 <= span.start <= span.first < span.last <= span.stop <= length
        answered[rows.first : rows.last, columns.first : columns.last] += 1
    assert (answered == 1).all()
    for sides in zip(*found, strict=True):
        assert all(one.stop - following.start >= overlap for one, following in pairwise(sorted(set(sides))))


def test_an_overlap_as_wide_as_a_tile_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.overlap is 64; it must be smaller than the tiles, 64x128"):
        tiles.tiling(Size(64, 128), 64)
    assert tiles.tiling(None, 64) is None


def packed(tmp_path: Path, role: Role, size: str = "native", native: bool = False) -> Split:
    """A raster of 10×6 whose pixels are all different, cut into tiles of 4×4."""
    image = np.arange(180, dtype=np.uint8).reshape(6, 10, 3)
    mask = (np.arange(60, dtype=np.uint8) % 3).reshape(6, 10)
    Image.fromarray(image).save(tmp_path / "r.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    sample = Sample("r", tmp_path / "r.png", tmp_path / "m.png")
    return packed_split([sample], LABELS, tmp_path, role, size, native, Tiling(4, 4, 1))


def test_tiles_are_cut_where_their_names_say(tmp_path: Path) -> None:
    split = packed(tmp_path, "train")
    names = [split.name(i) for i in range(len(split))]
    assert names == [f"r_y{y:05d}_x{x:05d}" for y in (0, 2) for x in (0, 3, 6)]
    image = np.arange(180, dtype=np.uint8).reshape(6, 10, 3)
    assert (split.image(4) == image[2:6, 3:7]).all()
    assert (split.mask(4) == (np.arange(60) % 3).reshape(6, 10)[2:6, 3:7]).all()  # in train, all of it


def test_in_val_each_pixel_is_scored_once(tmp_path: Path) -> None:
    split = packed(tmp_path, "val")
    scored = np.full((6, 10), VOID, np.uint8)
    places = [(y, x) for y in (0, 2) for x in (0, 3, 6)]
    for i, (y, x) in enumerate(places):
        mask = split.mask(i)
        window = scored[y : y + 4, x : x + 4]
        assert (window[mask != VOID] == VOID).all()
        window[mask != VOID] = mask[mask != VOID]
    assert (scored == (np.arange(60) % 3).reshape(6, 10)).all()
    assert split.pixels().sum(0).tolist() == [20, 20, 20]


def test_tiles_are_resized_like_images_and_native_masks_are_not(tmp_path: Path) -> None:
    split = packed(tmp_path, "val", size=Size(2, 2), native=True)
    assert split.image(0).shape == (2, 2, 3)
    assert split.mask(0).shape == (4, 4)


def test_equal_tiles_of_different_rasters_are_no_leak_but_equal_rasters_are(tmp_path: Path) -> None:
    pixels = np.zeros((6, 10, 3), np.uint8)
    for name, corner in (("a", 1), ("b", 2)):
        pixels[5, 9] = corner
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    Image.fromarray(np.zeros((6, 10), np.uint8)).save(tmp_path / "m.png")
    a, b = (Sample(name, tmp_path / f"{name}.png", tmp_path / "m.png") for name in "ab")
    train = packing.pack([a], LABELS, "native", False, "train", tmp_path, Tiling(4, 4, 1))
    packing.refuse_shared(train, packing.pack([b], LABELS, "native", False, "val", tmp_path, Tiling(4, 4, 1)))
    with pytest.raises(UserError, match=r"1 image is in both splits, .*: a_y.* is a_y"):
        packing.refuse_shared(train, packing.pack([a], LABELS, "native", False, "val", tmp_path, Tiling(4, 4, 1)))
