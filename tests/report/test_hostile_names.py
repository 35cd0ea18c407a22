"""Names of classes and images that mean something to matplotlib, Markdown, HTML or a spreadsheet."""

import html
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import packed_split
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image
from report_files import written

from fcn.data.labels import Labels
from fcn.data.split import Split
from fcn.datasets.sources import Sample
from fcn.evaluation import review, score_charts
from fcn.figures import charts, tables
from fcn.ladder import NETS
from fcn.report import markdown, page
from fcn.runtime import files

NAMES = (
    r"price $\foo$ a",
    "$x^",
    "a$b$c",
    "=1+1",
    "+x",
    "-x",
    "@x",
    "'x",
    "''=x",
    "<script>alert(1)<script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "a|b",
    "**bold**",
    "`code`",
    "_x_",
)
LABELS = Labels(NAMES, tuple((i, i, i) for i in range(len(NAMES))))
COUNTS = torch.ones(len(NAMES), len(NAMES), dtype=torch.int64)


@pytest.mark.parametrize("name", [*NAMES, "plain", "\t=x", "\r", "\n-", "＝x", "'", ""])
def test_no_cell_begins_as_a_formula_and_each_is_read_back(name: str) -> None:
    assert tables.name(tables.cell(name)) == name
    assert tables.cell(name)[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n", "＝")


def test_cells_of_plain_names_are_the_names() -> None:
    assert [tables.cell(name) for name in ("road", "a=b", "1-2")] == ["road", "a=b", "1-2"]


def split(folder: Path) -> Split:
    """One image of 16 pixels, one of each class."""
    assert len(NAMES) == 16
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4)
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "image.png")
    return packed_split([Sample("=i", folder / "image.png", folder / "mask.png")], LABELS, folder)


def test_every_picture_draws_the_names_as_they_are(tmp_path: Path) -> None:
    own, iu = split(tmp_path), {net: [0.5] * len(NAMES) for net in NETS}
    charts.class_frequencies({"val": own}, tmp_path / "classes.png")
    charts.samples(own, tmp_path / "samples.png")
    charts.confusion(COUNTS, LABELS, tmp_path / "confusion_fcn8s.png")
    score_charts.class_iu(LABELS, iu, tmp_path / "iu.png")


def test_the_text_of_a_picture_is_a_name_with_its_dollars_and_backslashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the SVG that matplotlib makes of the same figure, which keeps text as text."""
    drawn: list[Figure] = []
    monkeypatch.setattr(files, "write_png", lambda path, figure: drawn.append(figure))
    charts.class_frequencies({"val": split(tmp_path)}, tmp_path / "classes.png")
    charts.confusion(COUNTS, LABELS, tmp_path / "confusion_fcn8s.png")
    score_charts.class_iu(LABELS, {net: [0.5] * len(NAMES) for net in NETS}, tmp_path / "iu.png")
    assert len(drawn) == 3
    for figure in drawn:
        svg = io.StringIO()
        with rc_context({"svg.fonttype": "none"}):
            figure.savefig(svg, format="svg")
        texts = [html.unescape(text) for text in re.findall(r"<text[^>]*>(.*?)</text>", svg.getvalue())]
        assert {r"price $\foo$ a", "a$b$c", "$x^"} <= set(texts)


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(name for name, _ in attrs)}


def test_the_report_holds_names_as_text_alone(tmp_path: Path) -> None:
    scores = {
        net: dict.fromkeys(("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu"), 0.01)
        for net in NETS
    }
    content = written(tmp_path, "scenes", LABELS, dict.fromkeys(NETS, COUNTS), scores).content()
    assert content.classes.index.tolist() == list(NAMES)
    text = markdown.markdown(content)
    assert any("learned nothing" in line or "constant" in line for line in text.splitlines())
    assert not re.search(r"(?<!\\)[<$`]|(?<!\\)\[", text)
    rows = [line for line in text.splitlines() if line.startswith("| ") and re.search(r"[0-9] % \|$", line)]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [6] * len(NAMES)
    elements = Elements()
    elements.feed(page.page(content, tmp_path))
    assert not {"img", "onerror"} & elements.found


def test_the_name_of_an_image_is_read_back_from_its_table(tmp_path: Path) -> None:
    own = split(tmp_path)
    (tmp_path / "predictions/fcn8s").mkdir(parents=True)
    Image.fromarray(own.mask(0)).save(tmp_path / "predictions/fcn8s/=i.png")
    images, _ = review.review(own, tmp_path / "predictions", {"fcn8s": np.array([1.0])}).tables(own)
    (tmp_path / "images.csv").write_text(images.to_csv(index=False))
    assert "\n'=i,1.0,0.0\n" in (tmp_path / "images.csv").read_text()
    assert markdown._table(tmp_path / "images.csv", "image")["image"].tolist() == ["=i"]
