"""Colours that can be told apart, and contact sheets and charts that stay readable whatever is in them."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from makers import packed_split
from matplotlib.colors import to_rgb
from PIL import Image

from fcn import palette
from fcn.data.labels import VOID, Labels
from fcn.datasets import class_list, label_maps
from fcn.datasets.sources import Sample
from fcn.evaluation import exhibits
from fcn.figures import charts, sheets


def colourful(count: int) -> Labels:
    return Labels(tuple(f"class {i}" for i in range(count)), palette.class_colours(count))


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_oklab_is_that_of_its_author() -> None:
    """XYZ's white and Ottosson's own table of sRGB: white is (1, 0, 0), red (0.628, 0.225, 0.126)."""
    seen = palette.oklab([(255, 255, 255), (255, 0, 0)])[0]
    assert seen[0] == pytest.approx([1, 0, 0], abs=1e-3)
    assert seen[1] == pytest.approx([0.628, 0.225, 0.126], abs=1e-3)


def test_red_and_green_of_one_lightness_are_close_for_eyes_without_one_kind_of_cones() -> None:
    red, green = palette.oklab([(200, 60, 60)]), palette.oklab([(110, 115, 40)])
    ordinary = float(np.linalg.norm(red[0] - green[0]))
    assert float(palette.distances(red, green)[0, 0]) < 0.6 * ordinary


@pytest.mark.parametrize(("count", "least"), [(2, 0.25), (4, 0.15), (8, 0.15), (20, 0.1), (254, 0.03)])
def test_classes_without_declared_colours_get_some_that_differ_and_are_neither_black_nor_white(
    count: int, least: float
) -> None:
    colours = palette.class_colours(count)
    assert len(set(colours)) == count
    seen = palette.oklab(colours)
    apart = palette.distances(seen, seen) + np.eye(count)
    assert apart.min() >= least
    lightness = seen[0, :, 0]
    assert lightness.min() > 0.35  # black has 0
    assert palette.distances(seen, palette.oklab([(255, 255, 255)])).min() > 0.05  # void's


def test_a_class_keeps_its_colour_when_others_are_added_behind_it() -> None:
    assert palette.class_colours(254)[:30] == palette.class_colours(30)


def test_own_classes_get_these_colours_unless_their_masks_have_some() -> None:
    own = class_list.coded(["no", "yes"], "")
    assert own.palette == ((0, 114, 178), (230, 159, 0))
    assert class_list.coded([{"no": "1,2,3"}, {"yes": "4,5,6"}], "").palette == ((1, 2, 3), (4, 5, 6))


@pytest.mark.parametrize("name", ["SCENES", "CAMVID", "VOC", "SIFTFLOW", "NYUD"])
@pytest.mark.parametrize("marks", [exhibits.WRONG, exhibits.MARKS])
def test_marks_look_like_no_class_and_no_grey_and_not_like_each_other(
    name: str, marks: dict[str, palette.Colour]
) -> None:
    taken = [*getattr(label_maps, name).palette, *exhibits.GREYS]
    found = palette.marks(marks, taken)
    assert list(found) == list(marks)
    for mark, colour in found.items():
        others = [*taken, *(other for key, other in found.items() if key != mark)]
        assert palette.distances(palette.oklab([colour]), palette.oklab(others)).min() >= palette.CLOSE


def test_a_preferred_colour_stays_where_nothing_is_like_it_and_among_151_classes_some_colour_is_found() -> None:
    assert palette.marks(exhibits.WRONG, [(0, 0, 170), *exhibits.GREYS]) == exhibits.WRONG
    assert palette.marks(exhibits.WRONG, [(220, 20, 60), *exhibits.GREYS]) != exhibits.WRONG
    found = palette.marks(exhibits.WRONG, label_maps.ADE20K151.palette)["wrong"]
    assert found not in label_maps.ADE20K151.palette


def test_the_three_nets_have_colours_apart_and_dvcs_plots_have_the_same() -> None:
    colours = [tuple(round(255 * part) for part in to_rgb(hue)) for hue in charts.COLOURS.values()]
    for one, other in combinations(colours, 2):
        assert palette.distances(palette.oklab([one]), palette.oklab([other]))[0, 0] > 0.15  # type: ignore[list-item]
    scale = json.loads((ROOT / ".dvc/plots/nets.json").read_text())["encoding"]["color"]["scale"]
    assert scale == {"domain": ["FCN-32s", "FCN-16s", "FCN-8s"], "range": list(charts.COLOURS.values())}


@pytest.mark.parametrize("count", [1, 2, 10, 30, 40])
@pytest.mark.parametrize("shape", [(128, 128), (375, 500), (500, 333), (96, 1200)])
def test_a_sheet_stays_within_2000_pixels_however_many_images_it_shows(
    tmp_path: Path, count: int, shape: tuple[int, int]
) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    path = tmp_path / "sheet.png"
    sheets.sheet([[picture] * 3] * count, colourful(2), path, sheets.counted([]), ["image", "prediction", "both"])
    width, height = size(path)
    assert width <= 2000
    assert height <= 2000 + 30  # and a line of the legend


def test_pictures_of_a_few_rows_are_256_pixels_high() -> None:
    assert sheets.thumbnail(Image.new("RGB", (128, 128))).size == (256, 256)
    assert sheets.thumbnail(Image.new("RGB", (500, 375))).size == (341, 256)
    assert sheets._layout([[(128, 128)] * 5] * 6, [0] * 6, 0, 24) == (256, 1)


def test_a_legend_names_void_only_where_a_mask_has_it() -> None:
    labels = colourful(3)
    without = sheets._entries(labels, sheets.counted([np.array([[0, 1]])]), {"wrong": (255, 0, 0)})
    assert [name for name, _ in without] == ["wrong", "class 0", "class 1", "class 2"]
    masks = [np.array([[0, 1]]), np.array([[VOID, 0]])]
    assert sheets._entries(labels, sheets.counted(masks), {})[-1] == ("void", (255, 255, 255))


def test_a_legend_of_150_classes_names_the_40_that_are_shown_most_and_counts_the_others() -> None:
    labels = colourful(150)
    shown = np.zeros(256, np.int64)
    shown[100:145] = np.arange(45, 0, -1)  # 45 classes; 140 to 144 have the fewest pixels
    names = [name for name, _ in sheets._entries(labels, shown, {})]
    assert names == [*(f"class {i}" for i in range(100, 140)), "and 5 more"]
    shown[105:145] = 0
    assert [name for name, _ in sheets._entries(labels, shown, {})] == [f"class {i}" for i in range(100, 105)]


@pytest.mark.parametrize("classes", [2, 40, 41, 150, 254])
def test_the_chart_of_classes_stays_within_2000_pixels(tmp_path: Path, classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = colourful(classes)
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(rng.integers(0, classes, (40, 40)).astype(np.uint8)).save(tmp_path / "mask.png")
    samples = [Sample("image", tmp_path / "image.png", tmp_path / "mask.png")]
    charts.class_frequencies({"val": packed_split(samples, labels, tmp_path)}, tmp_path / "classes.png")
    assert max(size(tmp_path / "classes.png")) <= 2000
