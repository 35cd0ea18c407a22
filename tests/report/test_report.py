"""What the report says, of experiments whose scores and counts are written by hand."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, changed
from PIL import Image
from report_files import Written, row, written

from fcn import params
from fcn.data.labels import Labels
from fcn.datasets.label_maps import VOC
from fcn.evaluation import paper
from fcn.ladder import NETS, SCORES
from fcn.params import Size
from fcn.report import alt_text, markdown, page

TWO = Labels(("road", "cow"), ((128, 64, 128), (64, 128, 0)))


@pytest.fixture
def published(tmp_path: Path) -> Written:
    """The reference's weights on seg11valid, 16s not scored; 8s as the reference scores, 32s a little worse."""
    counts = {net: torch.diag(torch.arange(1, 22)) + 1 for net in NETS}
    scores = {"fcn32s": row(90.40, 76.4824, 63.5, 83.4580), "fcn8s": row(91.2212, 77.6146, 65.5126, 84.5445)}
    return written(tmp_path, "voc-published", VOC, counts, scores)


def test_scores_stand_beside_the_papers_and_the_reference_weights(published: Written) -> None:
    text = markdown.markdown(published.content())
    for line in (
        "| | paper | reference weights | ours | difference |",
        "| FCN-32s, pixel accuracy | 89.1 | 90.48 | 90.40 | −0.08 |",
        "| FCN-32s, mean IU | 59.4 | 63.63 | 63.50 | −0.13 |",
        "| FCN-16s, mean IU | 62.4 | 65.00 | —, not run | — |",
        "| FCN-8s, mean IU | 62.7 | 65.51 | 65.51 | +0.00 |",
    ):
        assert line in text.splitlines()
    assert "Paper: CVPR 2015 (arXiv 1411.4038v2), table 2. Reference weights: as scored by wkentaro/fcn." in text


def test_a_score_that_the_paper_does_not_have_is_not_compared(
    published: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = markdown.comparison(published.content())
    assert all(len(rows) == 4 for rows in expected.values())
    for module in (markdown, page):  # first: published scores are found by name, not by place
        monkeypatch.setattr(module, "SCORES", {"boundary_iu": "boundary IU", **SCORES})
    content = published.content()
    for scores in filter(None, content.scores.values()):
        scores["boundary_iu"] = 0.5
    assert markdown.comparison(content) == expected
    assert "| net | boundary IU | pixel accuracy |" in markdown.markdown(content)
    assert "boundary IU" in page.page(content, published.folder)


@pytest.mark.parametrize(
    ("recipe", "changes", "nets"),
    [
        ("voc-published", {}, ["fcn32s", "fcn16s", "fcn8s"]),
        ("voc-atonce", {}, ["fcn32s", "fcn16s", "fcn8s"]),
        ("voc-fixed", {}, ["fcn32s"]),
        ("voc-seed", {}, []),
        ("voc-heavy", {"data.splits.val": "val"}, []),
        ("voc-heavy", {"data.size.val": 256, "evaluate.size": "input"}, []),
        ("voc-heavy", {"data.size.val": 256, "evaluate.size": "native"}, ["fcn32s", "fcn16s", "fcn8s"]),
        ("voc-alexnet", {}, ["fcn32s"]),
        ("voc-googlenet", {}, ["fcn32s"]),
        ("nyud-color", {}, ["fcn32s"]),
        ("nyud-color", {"data.inputs": "rgb+hha"}, []),
        ("nyud-depth", {"model.fusion": "late"}, []),
        ("nyud-hha", {"data.inputs": "depth"}, []),
        ("nyud-hha", {"data.splits.val": "test"}, []),
        ("nyud-rgb-hha", {}, ["fcn32s", "fcn16s"]),
        ("siftflow", {}, ["fcn16s"]),
        ("siftflow", {"data.labels": "semantic"}, []),
        ("siftflow", {"data.labels": "geometric"}, []),
        ("context60", {}, []),
        ("camvid", {}, []),
        ("scenes", {}, []),
    ],
)
def test_only_the_same_data_split_and_size_are_compared(recipe: str, changes: dict[str, Any], nets: list[str]) -> None:
    experiment = params.check(changed((ROOT / "recipes" / f"{recipe}.yaml").read_text(), changes), "params.yaml")
    beside = paper.beside(experiment)
    assert list(beside) == nets
    if recipe == "voc-fixed":
        assert beside["fcn32s"].paper == (83.0, 59.7, 45.4, 72.0)
    if recipe == "voc-alexnet":
        assert beside["fcn32s"].paper == (None, None, 39.8, None)
        assert beside["fcn32s"].reference == (None, None, 48.0, None)
    if recipe == "voc-googlenet":
        assert (beside["fcn32s"].paper, beside["fcn32s"].reference) == ((None, None, 42.5, None), None)
    if recipe == "voc-atonce":
        assert (beside["fcn8s"].paper, beside["fcn8s"].reference) == (None, (91.1288, 78.4979, 65.3998, 84.4326))


@pytest.mark.parametrize(
    ("recipe", "net", "mean_iu", "geometric"),
    [
        ("nyud-color", "fcn32s", 29.2, None),
        ("nyud-depth", "fcn32s", 30.5, None),
        ("nyud-hha", "fcn32s", 24.2, None),
        ("nyud-rgb-hha", "fcn32s", 32.8, None),
        ("nyud-rgb-hha", "fcn16s", 34.0, None),
        ("siftflow", "fcn16s", 39.5, 94.3),
    ],
)
def test_the_papers_scores_stand_beside_the_experiment_that_they_belong_to(
    recipe: str, net: str, mean_iu: float, geometric: float | None
) -> None:
    path = ROOT / "recipes" / f"{recipe}.yaml"
    published = paper.beside(params.load(path))[net]
    assert published.paper is not None
    assert (published.paper[2], published.geometric) == (mean_iu, geometric)
    if net == "fcn32s" or geometric:
        assert str(mean_iu) in path.read_text().partition("\nseed:")[0]


def test_the_geometric_accuracy_is_compared_too(tmp_path: Path) -> None:
    counts = {net: torch.tensor([[8, 1], [1, 5]]) for net in NETS}
    scores = {net: row(85, 52, 40, 76) | {"geometric_pixel_accuracy": 0.9} for net in NETS}
    content = written(tmp_path, "siftflow", TWO, counts, scores).content()
    assert markdown.comparison(content)["fcn16s"][-1] == ("geometric pixel accuracy", "94.3", "—", "90.00", "−4.30")
    assert "geometric pixel accuracy" in page.page(content, tmp_path)


def test_recipes_expect_what_is_published() -> None:
    """The headers name mean IUs; each must be one of those that the report will compare with."""
    for recipe in sorted((ROOT / "recipes").glob("voc-*.yaml")):
        published = paper.beside(params.load(recipe)).values()
        known = {f"{r[2]:.{n}f}" for p in published for r, n in ((p.paper, 1), (p.reference, 1), (p.reference, 2)) if r}
        header = recipe.read_text().partition("\nseed:")[0]
        numbers = re.findall(r"mean IU on seg11valid ([\d., ]+)", header)
        for number in re.findall(r"\d\d\.\d+", " ".join(numbers)):
            assert number in known, f"{recipe.stem}: {number}"


def test_where_nothing_is_published_there_is_no_table(tmp_path: Path) -> None:
    counts = {net: torch.tensor([[8, 1], [1, 5]]) for net in NETS}
    content = written(tmp_path, "scenes", TWO, counts, {net: row(87, 86, 77, 76) for net in NETS}).content()
    text = markdown.markdown(content)
    assert "Nothing comparable is published for this data set, split and size." in text
    assert "reference weights" not in text
    assert "reference weights" not in page.page(content, tmp_path)


def test_classes_in_no_mask_are_named_and_have_no_iu(tmp_path: Path) -> None:
    counts = {net: torch.tensor([[8, 1], [0, 0]]) for net in NETS}
    content = written(tmp_path, "scenes", TWO, counts, {net: row(89, 89, 89, 89) for net in NETS}).content()
    line = "In no mask of val, and excluded from every mean: cow."
    assert line in markdown.markdown(content)
    assert line in page.page(content, tmp_path)
    assert "| cow | — | — | — | none |" in markdown.markdown(content)


def test_a_constant_answer_is_said_first_and_with_likely_causes(tmp_path: Path) -> None:
    counts = {net: torch.tensor([[8, 1], [1, 5]]) for net in NETS} | {"fcn16s": torch.tensor([[9, 0], [6, 0]])}
    scores = {net: row(87, 86, 77, 76) for net in NETS} | {"fcn16s": row(60, 50, 30, 36)}
    content = written(tmp_path, "scenes", TWO, counts, scores, images=2).content()
    line = (
        "FCN-16s gives one constant answer, road everywhere; likely causes: few images (no class is in more than 2 of"
    )
    for text in (markdown.markdown(content), page.page(content, tmp_path)):
        assert text.count("constant answer") == 1
        assert 0 < text.index(line) < text.index("60.0")
        assert "finer than the stride of 16 pixels" in text


@pytest.mark.parametrize(
    ("val", "tile", "fact", "few"),
    [
        ([f"{i}" for i in range(9)], None, "scored on 9 images of val", "val has 9 images"),
        ([f"{i}" for i in range(10)], None, "scored on 10 images of val", ""),
        (["a"], None, "scored on 1 image of val", "val has 1 image"),
        # Ten rows: two rasters in four tiles each, and two images that fit into one.
        (
            [*(f"{i}_y{y}_x{x}" for i in "ab" for y in ("00000", "00032") for x in ("00000", "00032")), "c", "d"],
            Size(64, 64),
            "scored on 4 images of val, in 10 tiles",
            "val has 4 images",
        ),
        ([f"a_y00000_x{i:05d}" for i in range(10)], None, "scored on 10 images of val", ""),  # their own names
    ],
)
def test_images_that_were_scored_on_are_counted_and_few_are_a_warning(
    tmp_path: Path, val: list[str], tile: str, fact: str, few: str
) -> None:
    counts = {net: torch.tensor([[8, 1], [1, 5]]) for net in NETS}
    scores = {net: row(87, 86, 77, 76) for net in NETS}
    content = written(tmp_path, "scenes", TWO, counts, scores, val=tuple(val), tile=tile).content()
    for text in (markdown.markdown(content), page.page(content, tmp_path)):
        assert re.search(rf"scenes, trained on train, {fact}$|<dd>scenes, trained on train, {fact}<dt>", text, re.M)
        assert ("scores of so few say little" in text) == bool(few)
        assert f"{few}: scores of so few" in text or not few


class Page(HTMLParser):
    """Every attribute that could fetch something, and every picture's text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found[name] or "" for name in ("src", "href", "data", "action") if name in found]
        self.alts += [found["alt"] or ""] if tag == "img" else []


def test_the_page_needs_no_other_file_and_its_pictures_have_texts(published: Written) -> None:
    folder = published.folder / "figures"
    scored = ("iu", "best", "worst", "strides", "borders", "predictions", *(f"confusion_{net}" for net in NETS))
    for name in ("curves", "resize/samples", "resize/classes", *(f"evaluate/{name}" for name in scored)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10), "red").save(folder / f"{name}.png")
    text = page.page(published.content(), folder)
    found = Page(text)
    assert len(found.alts) == 12
    assert all(link.startswith("data:image/webp;base64,") for link in found.links)
    assert "http" not in text
    assert all(len(alt) > 40 for alt in found.alts)
    assert len(set(found.alts)) == 12
    alt = next(alt for alt in found.alts if "matrix of FCN-8s" in alt)
    assert alt.endswith("The highest IU has tvmonitor, 35.5, the lowest background, 4.8.")
    assert text == page.page(published.content(), folder)


def test_texts_name_the_best_and_worst_image_and_the_errors_near_and_far(published: Written) -> None:
    found = alt_text.captions(published.content())
    assert "from second, 75.0: image" in found["evaluate/best"]
    assert "from first, 25.0: image" in found["evaluate/worst"]
    assert "differ most, from second, 30.0 % of its pixels" in found["evaluate/strides"]
    # Of 400 pixels 4 are within 1, three of them wrong; of all, 60.
    assert found["evaluate/borders"].endswith(
        "In per cent, within 1: FCN-32s 75.0, FCN-8s 75.0; anywhere: FCN-32s 15.0, FCN-8s 15.0."
    )
    content = published.content()
    content.images["differ"] = 0.0
    assert alt_text.captions(content)["evaluate/strides"].startswith("The nets agree on every pixel of val")
    assert "FCN-16s" not in "".join(found[f"evaluate/{name}"] for name in ("iu", "best", "worst", "strides", "borders"))


def test_without_scores_no_text_speaks_of_them(tmp_path: Path) -> None:
    counts = {net: torch.tensor([[8, 1], [1, 5]]) for net in NETS}
    content = written(tmp_path, "scenes", TWO, counts, {}).content()
    names = {f"evaluate/{name}" for name in ("iu", "best", "worst", "strides", "borders")}
    assert not names & set(alt_text.captions(content))
    assert content.warnings == []


def test_a_class_may_be_called_anything(tmp_path: Path) -> None:
    labels = Labels(("none", "<b>a|b"), TWO.palette)
    counts = {net: torch.tensor([[8, 1], [1, 5]]) for net in NETS}
    content = written(tmp_path, "scenes", labels, counts, {net: row(87, 86, 77, 76) for net in NETS}).content()
    assert "| \\<b\\>a\\|b | 71.4 | 71.4 | 71.4 | 40.00 % |" in markdown.markdown(content)
    assert "| none | 80.0 | " in markdown.markdown(content)
    assert "<b>" not in page.page(content, tmp_path)
