"""What differs between experiments, from files that a test writes by hand; and how it is shown."""

import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, Fcn
from markdown_it import MarkdownIt
from PIL import Image as Pictures

from fcn.comparison import differences, markdown, page, text
from fcn.comparison.comparison import Comparison, Image, Score, titles
from fcn.comparison.differences import Changed
from fcn.comparison.runs import Run, Side
from fcn.comparison.significance import Interval
from fcn.data.labels import Labels
from fcn.experiments.history import Snapshot
from fcn.pipeline import cache

HOSTILE = "<script>alert(1)</script>"


def run(name: str, data: str | None = None, **params: object) -> Run:
    return Run(name, {"fcn8s.mean_iu": 0.5}, params, data)


def side(*runs: Run) -> Side:
    return Side(runs[0].name, runs)


def test_params_that_differ_are_listed_whatever_their_type_in_mlflow() -> None:
    files = run("a", lr=1e-3, flip=True, crop=None, seed=1, momentum=0.9)
    logged = run("b", lr="0.001", flip="True", crop="None", seed="2", loss="sum")
    assert differences.params(side(files), side(logged)) == [
        ("seed", "1", "2"),
        ("momentum", "0.9", "—"),
        ("loss", "—", "sum"),
    ]


def test_params_of_several_runs_differ_only_if_their_values_do() -> None:
    one = side(run("a1", seed=1, lr=1.0), run("a2", seed=2, lr=1.0))
    other = side(run("b1", seed=2, lr=2.0), run("b2", seed=1, lr=2.0))
    assert differences.params(one, other) == [("lr", "1.0", "2.0")]
    assert differences.params(one, side(run("b", seed=3, lr=1.0))) == [("seed", "1, 2", "3")]


def snapshot(**files: str) -> Snapshot:
    graph = {
        "stages": {
            "train": {"cmd": "one", "deps": ["fcn/models", "stages/train.py"]},
            "evaluate": {"cmd": "two", "deps": ["fcn/models", "fcn/metrics"]},
        }
    }
    content = {"dvc.yaml": yaml.safe_dump(graph, sort_keys=False)} | {
        path.replace("_", "/"): lines for path, lines in files.items()
    }
    return Snapshot("x", {path: lines.encode() for path, lines in content.items()}, 0)


def test_code_is_listed_with_added_and_removed_lines_if_a_stage_depends_on_it() -> None:
    one = snapshot(**{"fcn_models_fcn.py": "a\nb\nc\n", "fcn_cli_plan.py": "a\n", "stages_train.py": "x\n"})
    other = snapshot(**{"fcn_models_fcn.py": "a\nB\nc\nd\n", "fcn_metrics_new.py": "1\n2\n", "stages_train.py": "x\n"})
    assert differences.code(one, other) == [
        Changed("fcn/metrics/new.py", 2, 0, ("evaluate",)),
        Changed("fcn/models/fcn.py", 2, 1, ("train", "evaluate")),
    ]
    assert differences.code(one, one) == []


def test_inputs_are_dependencies_that_are_neither_code_nor_outs() -> None:
    def state(own: str, code: str, raw: str) -> Snapshot:
        deps = [{"path": "data/own/mine", "md5": own * 32}, {"path": "fcn/io", "md5": code * 32}]
        stages = {
            "download": {"cmd": "x", "deps": deps, "outs": [{"path": "data/raw", "md5": raw * 32}]},
            "resize": {"cmd": "y", "deps": [{"path": "data/raw", "md5": raw * 32}]},
        }
        return Snapshot("x", {"dvc.lock": yaml.safe_dump({"stages": stages}).encode()}, 0)

    assert differences.inputs(state("a", "b", "c"), state("1", "2", "3")) == ["data/own/mine"]
    assert differences.inputs(state("a", "b", "c"), state("a", "2", "3")) == []


Pack = Callable[..., str]


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """Puts files of packed splits into a cache, and returns the md5 of their folder."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)

    def stored(content: bytes, suffix: str = "") -> str:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
        path = tmp_path / "files/md5" / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return md5

    def folder(names: list[str], classes: list[str], masks: str = "masks", train: str = "train") -> str:
        files = {
            "train.images": train,
            "val.masks": masks,
            "val.csv": "id,height\n" + "".join(f"{name},1\n" for name in names),
            "classes.json": json.dumps({name: [0, 0, 0] for name in classes}),
        }
        listed = [{"md5": stored(content.encode()), "relpath": name} for name, content in files.items()]
        return stored(json.dumps(listed).encode(), ".dir")

    return folder


def test_scores_are_comparable_if_only_training_images_differ(pack: Pack) -> None:
    one, other = pack(["a"], ["sky"]), pack(["a"], ["sky"], train="others")
    assert one != other
    assert differences.incomparable(run("x", one), run("y", one)) == ""
    assert differences.incomparable(run("x", one), run("y", other)) == ""


def test_the_reason_why_scores_are_not_comparable_is_named(pack: Pack) -> None:
    one = run("x", pack(["a", "b"], ["sky", "road"]))

    def reason(*content: object, **masks: str) -> str:
        return differences.incomparable(one, run("y", pack(*content, **masks)))

    assert reason(["a", "b"], ["sky"]) == "the classes differ: 2 classes and 1 class; only in the first: road"
    assert reason(["a", "b"], ["road", "sky"]) == "the classes differ: the same classes in another order"
    assert (
        reason(["a", "c", "d"], ["sky", "road"])
        == "the images of val differ: 2 images and 3 images; only in the first: b, only in the second: c"
    )
    assert (
        reason(["a", "b"], ["sky", "road"], masks="edited")
        == "the masks of val differ: other labels or another size of the same 2 images"
    )


def test_without_a_cache_or_a_digest_the_params_decide(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    known = {"data.scenes.val": 100, "data.scenes.train": 400, "lr": 1}
    here, gone, no = pack(["a"], ["sky"]), "0" * 32 + ".dir", None
    fewer, more = known | {"data.scenes.val": 50}, known | {"data.scenes.train": 800, "lr": 2}
    for data in (gone, no):
        assert differences.incomparable(run("x", here, **known), run("y", data, **fewer)) == (
            "data.scenes.val is 100 and 50"
        )
    assert differences.incomparable(run("x", here, **known), run("y", no, **more)) == ""
    reason = differences.incomparable(run("x", here, **known), run("y", gone, **more))
    assert reason == f"the packed data differ (md5 {here[:7]} and 0000000), and DVC's cache cannot tell in what"


def comparison(**changes: object) -> Comparison:
    """Two experiments and all that can be shown of them, with names that mean something to HTML."""
    picture = np.zeros((8, 8, 3), np.uint8)
    one, other = (Side(name, (run(name),)) for name in ("plain", HOSTILE))
    facts = {
        "method": "bootstrap",
        "notes": [f"a note of {HOSTILE}"],
        "params": [("lr", "1", HOSTILE)],
        "code": [Changed(f"fcn/{HOSTILE}.py", 1, 2, ("train",))],
        "scores": [
            Score("fcn32s.mean_iu", [0.5], [], None),
            Score("fcn8s.mean_iu", [0.70004], [0.71], Interval(0.00996, 0.002, 0.018)),
        ],
        "net": "fcn8s",
        "classes": [("sky", 0.5, 0.75), (HOSTILE, 0.5, 0.25)],
        "gained": [Image(HOSTILE, 0.5, 0.625, (picture,) * 4, np.eye(1, 256, dtype=np.int64)[0])],
        "labels": Labels(("sky", HOSTILE), ((1, 2, 3), (4, 5, 6))),
    }
    return Comparison(**({"one": one, "other": other, "reason": ""} | facts | changes))  # type: ignore[arg-type]


class Tags(HTMLParser):
    """The tags of a page, and the sources that it loads."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags, self.sources = list[str](), list[str]()
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_escapes_names_and_loads_nothing() -> None:
    found = Tags(page.page([comparison()]))
    assert "script" not in found.tags
    assert found.tags.count("img") == 4
    assert all(source.startswith("data:") for source in found.sources)


def test_the_page_of_scores_that_are_not_comparable_says_why() -> None:
    content = page.page([comparison(reason="the masks differ", method="", gained=[], classes=[], net="", code=None)])
    assert "<strong>Not comparable:</strong> the masks differ" in content
    assert "difference</th>" not in content


def test_differences_are_in_per_cent_with_their_sign_and_an_interval() -> None:
    lines = [line.split() for line in text.lines(comparison(other=side(run("b"))))]
    assert ["FCN-8s", "mean", "IU", "70.0", "71.0", "+1.0", "+0.2", "to", "+1.8"] in lines
    assert ["FCN-32s", "mean", "IU", "50.0", "—", "—"] in lines
    assert ["sky", "50.0", "75.0", "+25.0"] in lines
    assert titles("fcn8s.test_geometric_mean_iu") == ("FCN-8s", "held-out geometric mean IU")
    assert text.signed(-0.0004) == text.signed(0.0004) == "0.0"
    assert text.signed(-0.012) == "−1.2"


def test_the_verdict_names_the_better_side_only_if_the_interval_excludes_zero() -> None:
    assert text.verdict(comparison(other=side(run("b")))) == (
        "FCN-8s: b has a higher mean IU than plain; the interval excludes 0"
    )
    worse = [Score("fcn8s.mean_iu", [0.7], [0.6], Interval(-0.1, -0.2, -0.01))]
    assert text.verdict(comparison(scores=worse)).startswith("FCN-8s: plain has a higher mean IU than ")
    same = [Score("fcn8s.mean_iu", [0.7], [0.71], Interval(0.01, -0.01, 0.03))]
    assert "no difference in mean IU is shown" in text.verdict(comparison(scores=same))
    assert text.verdict(comparison(scores=[])) == ""


def test_pages_of_any_names_are_files_below_the_ignored_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {page.write([comparison(other=side(run(name)))], None) for name in ("b", "../b", "a b", "a/b", "ä" * 200)}
    assert {path.parent for path in paths} == {tmp_path / ".fcn/compare"}
    assert len(paths) == 5


def html(content: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(content)


def rendered(content: str) -> list[list[str]]:
    """The rows of the tables of a Markdown text, as a reader sees them."""
    cells, found = Cells(html(content)), list[list[str]]()
    for tag, words in cells.found:
        if tag == "tr":
            found.append([])
        else:
            found[-1].append(words)
    assert not {"script", "img", "a"} & cells.tags
    return found


class Cells(HTMLParser):
    """The rows and cells of a page's tables."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found, self.tags, self.is_open = list[tuple[str, str]](), set[str](), False
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("tr", "td", "th"):
            self.found.append((tag, ""))
        self.is_open = tag in ("td", "th") or (self.is_open and tag == "code")

    def handle_endtag(self, tag: str) -> None:
        self.is_open = self.is_open and tag == "code"

    def handle_data(self, data: str) -> None:
        if self.is_open:
            tag, words = self.found[-1]
            self.found[-1] = tag, words + data


NAMES = ["plain", "b|c", "x`y", "*bold*", "a\\|b", "[a](http://x)", "![a](x.png)", "@name #1", HOSTILE]


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_params_scores_and_classes_with_any_names(name: str) -> None:
    content = markdown.markdown(
        [
            comparison(
                other=Side(name, (run(name),)),
                classes=[("sky", 0.5, 0.75), (name, 0.5, 0.25)],
                notes=[f"no predictions of {name}"],
            )
        ]
    )
    found = rendered(content)
    assert ["params", "plain", name] in found
    assert ["lr", "1", HOSTILE] in found
    assert ["scores, %", "plain", name, "difference", "95 % interval"] in found
    assert ["FCN-8s mean IU", "70.0", "71.0", "+1.0", "+0.2 to +1.8"] in found
    assert ["FCN-32s mean IU", "50.0", "—", "—", "—"] in found
    assert found[-2:] == [["sky", "50.0", "75.0", "+25.0"], [name, "50.0", "25.0", "−25.0"]]
    assert "95 % intervals: bootstrap" in content
    assert not {"@", "#"} & set(re.sub("<code>.*?</code>", "", html(content)))  # GitHub would link users and issues


def test_a_page_is_written_also_if_the_markdown_is_printed(
    fcn: Fcn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    out, _, code = fcn("compare", "scenes", "camvid", "--markdown", "-", "--page", tmp_path / "x.html")
    assert code == 0
    assert out.startswith("## <code>scenes</code> → ")
    assert str(tmp_path) not in out
    assert "camvid" in (tmp_path / "x.html").read_text()


def test_markdown_begins_with_the_verdict_or_says_why_there_is_none() -> None:
    def verdict(**changes: object) -> str:
        return markdown.markdown([comparison(other=side(run("b")), **changes)]).splitlines()[2]

    assert verdict() == "**FCN-8s: b has a higher mean IU than plain; the interval excludes 0**"
    untested = [Score("fcn8s.mean_iu", [0.7], [0.69], None)]
    assert verdict(scores=untested, method="") == (
        "**FCN-8s mean IU: difference −1.0 points; no interval, for the reason below**"
    )
    reason = "the masks of val differ"
    assert verdict(reason=reason, method="", net="", classes=[]) == "**Not comparable: the masks of val differ**"
    found = rendered(
        markdown.markdown([comparison(other=side(run("b")), reason=reason, method="", net="", classes=[])])
    )
    assert ["FCN-8s mean IU", "70.0", "71.0"] in found  # no difference of scores on other data


def test_markdown_of_long_values_and_many_params_fits_a_comment() -> None:
    many = [(f"key{i}", "1", "x" * 100_000) for i in range(1000)]
    content = markdown.markdown([comparison(params=many)])
    assert len(content) < 65_536
    assert "and 970 more params" in content


def test_the_pictures_lie_beside_the_markdown_which_links_them_by_name(tmp_path: Path) -> None:
    found = comparison()
    paths = markdown.write([found, comparison(gained=[], lost=found.gained)], tmp_path / "out" / "comment.md")
    names = ["comment.md", "comment-1-gained.png", "comment-2-lost.png"]
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == names
    lines = paths[0].read_text().splitlines()
    assert "![Images that gained most with FCN-8s](comment-1-gained.png)" in lines
    assert "![Images that lost most with FCN-8s](comment-2-lost.png)" in lines
    for path in paths[1:]:
        with Pictures.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.width > 4 * 256  # four pictures side by side
    (alone,) = markdown.write([comparison(gained=[])], tmp_path / "alone.md")
    assert "![" not in alone.read_text()
