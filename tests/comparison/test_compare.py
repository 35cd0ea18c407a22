"""`fcn compare` of real experiments: what differs, scores with intervals, and a user's mistakes in one line."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import screenshots
import yaml
from conftest import ROOT, Checkout
from mlflow_store import rows
from PIL import Image
from scipy import stats

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compared(kept: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with experiments that differ in the rate of FCN-8s, and a store.

    They are trained for some more steps than in other tests, so that they do not all predict sky everywhere.
    """
    checkout = Checkout(tmp_path_factory.mktemp("compared"), kept)
    checkout.set(**{"train.iterations": 60, "train.validate_every": 60, "finetune.fcn8s.iterations": 20})
    checkout.run("dvc", "repro")
    checkout.commit()
    for name, change in {
        "high": "finetune.fcn8s.lr_factor=3.0",
        "low-1": "finetune.fcn8s.lr_factor=0.1",
        "low-2": "finetune.fcn8s.lr_factor=0.2",
    }.items():
        checkout.run("dvc", "exp", "run", "--temp", "--name", name, "--set-param", change)
    checkout.run("fcn", "sync")
    return checkout


def scores(checkout: Checkout, name: str) -> dict[str, dict[str, float]]:
    ref = next(ref for ref in checkout.experiments() if ref.endswith(f"/{name}"))
    found: dict[str, dict[str, float]] = json.loads(checkout.run("git", "show", f"{ref}:metrics/scores.json"))
    return found


def line(printed: str, start: str) -> list[str]:
    """The cells of the only line of a table that starts so."""
    (found,) = (row for row in printed.splitlines() if row.strip().startswith(start))
    return re.split(r" {2,}", found.strip())


def number(cell: str) -> float:
    return float(cell.replace("−", "-"))


def test_two_experiments_are_shown_side_by_side_with_the_interval_of_their_difference(compared: Checkout) -> None:
    printed = compared.run("fcn", "compare", "high", "workspace", "--page", ".fcn/side.html")
    assert line(printed, "finetune.fcn8s.lr_factor")[1:] == ["3.0", "0.5"]
    assert "code: no difference" in printed
    one, other = (100 * table["fcn8s"]["mean_iu"] for table in (scores(compared, "high"), local(compared)))
    _, *cells, interval = line(printed, "FCN-8s mean IU")
    assert [number(cell) for cell in cells] == pytest.approx([one, other, other - one], abs=0.051)
    low, high = map(number, interval.split(" to "))
    assert low <= other - one <= high
    assert line(printed, "FCN-32s mean IU")[-2:] == ["0.0", "0.0 to 0.0"]  # the same net
    assert "95 % intervals: bootstrap of mean IU over the 4 images of val" in printed
    assert "note: val has only 4 images" in printed
    assert printed.splitlines()[-1] == "wrote .fcn/side.html"


def local(checkout: Checkout) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(checkout.read("metrics/scores.json"))
    return found


def test_several_runs_a_side_are_compared_by_welchs_test(compared: Checkout) -> None:
    printed = compared.run("fcn", "compare", "low", "high,workspace")
    one = [scores(compared, f"low-{i}")["fcn8s"]["mean_iu"] for i in (1, 2)]
    other = [table["fcn8s"]["mean_iu"] for table in (scores(compared, "high"), local(compared))]
    expected = stats.ttest_ind(other, one, equal_var=False)
    _, first, second, _, interval, p = line(printed, "FCN-8s mean IU")
    for cell, values in ((first, one), (second, other)):
        assert cell == f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"
    low, high = (100 * float(end) for end in expected.confidence_interval(0.95))
    assert [number(end) for end in interval.split(" to ")] == pytest.approx([low, high], abs=0.051)
    assert float(p) == pytest.approx(expected.pvalue, rel=0.06)
    assert "Welch's test over 2 and 2 runs" in printed
    assert line(printed, "finetune.fcn8s.lr_factor")[1:] == ["0.1, 0.2", "3.0, 0.5"]


def test_one_run_against_several_is_shown_without_a_test(compared: Checkout) -> None:
    printed = compared.run("fcn", "compare", "high", "low")
    assert "note: no test: one side has several runs" in printed
    assert "95 %" not in printed


def test_classes_and_images_are_those_that_changed_most(compared: Checkout) -> None:
    printed = compared.run("fcn", "compare", "HEAD", "high")
    ref = next(ref for ref in compared.experiments() if ref.endswith("/high"))
    tables = [compared.run("git", "show", f"{commit}:metrics/classes.csv") for commit in ("HEAD", ref)]
    iu = [{row["class"]: row["fcn8s"] for row in csv.DictReader(table.splitlines())} for table in tables]
    gains = {name: float(iu[1][name]) - float(iu[0][name]) for name in iu[0] if iu[0][name] and iu[1][name]}
    best, worst = max(gains, key=gains.__getitem__), min(gains, key=gains.__getitem__)
    section = printed.split("IU by class, FCN-8s, %")[1].split("\n\n")[0].splitlines()[1:]
    assert section[0].split()[0] == best or gains[best] == gains[section[0].split()[0]]
    assert section[-1].split()[0] == worst or gains[worst] == gains[section[-1].split()[0]]
    per_image = {
        row["image"]: float(row["fcn8s"]) for row in csv.DictReader(compared.read("metrics/images.csv").splitlines())
    }
    shown = [re.split(r" {2,}", row.strip()) for row in printed.split("mean IU by image, %")[1].splitlines()[1:]]
    for name, one, *_ in (row for row in shown if row[0] in per_image):
        assert float(one) == pytest.approx(100 * per_image[name], abs=0.051)


def test_rows_of_mlflow_are_found_by_name_and_id_also_without_their_commit(compared: Checkout, tmp_path: Path) -> None:
    high = rows(compared)["high"]
    by_name = compared.run("fcn", "compare", "HEAD", "high")
    by_id = compared.run("fcn", "compare", "HEAD", high.info.run_id)
    assert line(by_id, "FCN-8s mean IU") == line(by_name, "FCN-8s mean IU")
    copy = Checkout(tmp_path, compared)
    shutil.copy2(compared.folder / "mlflow.db", copy.folder)
    for ref in copy.experiments():
        copy.run("git", "update-ref", "-d", ref)
    copy.run("git", "reflog", "expire", "--expire=now", "--all")
    copy.run("git", "gc", "--prune=now", "--quiet")
    printed = copy.run("fcn", "compare", "HEAD", "high")
    assert line(printed, "FCN-8s mean IU")[:4] == line(by_name, "FCN-8s mean IU")[:4]
    assert line(printed, "finetune.fcn8s.lr_factor")[1:] == ["0.5", "3.0"]
    assert "finetune.fcn8s.lr_factor" in printed
    assert "data." not in printed.split("code:")[0]  # no other param differs
    assert "note: without images and bootstrap: only scores are recorded of high, no predictions" in printed


def test_edited_code_is_listed_with_its_lines_and_the_stages_that_depend_on_it(ready: Checkout) -> None:
    before = ready.run("git", "rev-parse", "HEAD").strip()
    path = ready.folder / "fcn/evaluation/verdict.py"
    path.write_text(path.read_text().replace("FEW_IMAGES = 20", "FEW_IMAGES = 21\nUNUSED = 0"))
    (ready.folder / "fcn/cli/plan.py").write_text("# no stage reads it\n")
    ready.run("dvc", "repro")
    ready.commit()
    printed = ready.run("fcn", "compare", before, "HEAD")
    assert "code: 1 file\n  fcn/evaluation/verdict.py  +2 −1  (evaluate, report)" in printed
    assert "params: no difference" in printed


def test_the_recorded_results_of_a_recipe_are_compared_with_their_seeds(ready: Checkout) -> None:
    printed = ready.run("fcn", "compare", "scenes", "workspace")
    assert "not comparable: data.size.val is " in printed or "not comparable: data.scenes.size is " in printed
    assert line(printed, "FCN-8s mean IU")[1].startswith("71.8 ± 0.2")  # 71.69, 71.94 and 71.65


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["HEAD"], "name two experiments or more"),
        (["HEAD", "nothing"], "nothing is not `workspace`, a DVC experiment, a recorded recipe, a commit or a row in"),
        (["HEAD", "high", "high"], "high is named twice"),
        (["HEAD", "workspace"], "workspace is the same experiment as HEAD"),
        (["high", "HEAD~2"], "HEAD~2 has no results: commit"),  # from before the pipeline ran
        (["high", ","], "',' names no experiment"),
        (["high", "HEAD", "--page", "x.png"], "--page is x.png; write a name that ends in .html"),
        (
            ["high", "HEAD", "--markdown", "x.txt"],
            "--markdown is x.txt; write a name that ends in .md, or - to print it",
        ),
        (["high", "-x"], "the following arguments are required|unrecognized arguments"),
    ],
)
def test_a_mistake_is_one_line(compared: Checkout, words: list[str], message: str) -> None:
    printed = compared.run("fcn", "compare", *words, code=1)
    assert "Traceback" not in printed
    assert re.search(message, printed)
    assert len(printed.splitlines()) == 1 or "usage:" in printed


def test_an_experiment_without_scores_is_named_and_a_missing_cache_only_costs_the_intervals(ready: Checkout) -> None:
    ready.set(lr=2e-3)
    printed = ready.run("fcn", "compare", "HEAD", "workspace", code=1)
    assert printed == (
        "error: workspace has no scores: its evaluation did not run, or with other params, code or data; "
        "`dvc repro` runs it\n"
    )
    ready.run("dvc", "repro")
    shutil.rmtree(ready.folder / ".dvc/cache/files")
    printed = ready.run("fcn", "compare", "HEAD", "workspace")
    assert printed.count("note: ") == 1
    assert "note: without images and bootstrap: DVC's cache does not have data/resized of commit" in printed
    assert "IU by class, FCN-8s, %" in printed  # from metrics/classes.csv, which git has
    assert len(line(printed, "FCN-8s mean IU")) == 4


def test_predictions_that_do_not_have_the_recorded_score_are_not_believed(ready: Checkout) -> None:
    ready.run("dvc", "exp", "run", "--temp", "--name", "high", "--set-param", "finetune.fcn8s.lr_factor=3.0")
    folder = ready.folder / ".dvc/cache/files/md5"
    damaged = 0
    for path in folder.glob("??/*"):
        if path.read_bytes()[:4] == b"\x89PNG":
            with Image.open(path) as picture:
                is_mask, size, palette = picture.mode == "P", picture.size, picture.getpalette()
            if is_mask and size == (32, 32):
                path.chmod(0o644)
                empty = Image.new("P", size, 5)  # the nets predict class 0
                empty.putpalette(palette or [])
                empty.save(path, "PNG")
                damaged += 1
    assert damaged
    printed = ready.run("fcn", "compare", "HEAD", "high")
    assert "do not have its recorded mean IU of FCN-32s" in printed
    assert "95 %" not in printed


def test_the_page_opens_without_a_network_and_shows_pictures(compared: Checkout) -> None:
    printed = compared.run("fcn", "compare", "HEAD", "high", "low")
    path = compared.folder / printed.splitlines()[-1].removeprefix("wrote ")
    assert ".fcn/compare/" in path.as_posix()
    assert compared.run("git", "status", "--porcelain") == ""
    asked = []
    with screenshots.browser() as browser:
        page = screenshots.visit(browser).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: asked.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert page.get_by_role("heading", name="HEAD → high").is_visible()
        assert page.get_by_role("heading", name="HEAD → low").is_visible()
        assert page.get_by_role("img").count() >= 8
        assert page.get_by_role("row", name="finetune.fcn8s.lr_factor").first.is_visible()
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []


def test_the_markdown_has_what_the_terminal_shows_and_two_pictures(compared: Checkout, tmp_path: Path) -> None:
    printed = compared.run("fcn", "compare", "HEAD", "high", "--markdown", str(tmp_path / "x.md"))
    content = (tmp_path / "x.md").read_text()
    assert content.startswith("## <code>HEAD</code> → <code>high</code>\n\n**FCN-8s: ")
    assert "| <code>finetune.fcn8s.lr\\_factor</code> | <code>0.5</code> | <code>3.0</code> |" in content
    _, *cells = line(printed, "FCN-8s mean IU")
    assert f"| FCN-8s mean IU | {' | '.join(cells)} |" in content
    assert "- val has only 4 images" in content
    pictures = re.findall(r"(?m)^!\[Images that (gained|lost) most with FCN-8s\]\((.*)\)$", content)
    assert pictures
    for kind, name in pictures:
        assert name == f"x-{kind}.png"
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 4 * 256
        assert f"wrote {tmp_path / name}" in printed
    assert (
        compared.run("fcn", "compare", "HEAD", "high", "--markdown", "-")
        == content.partition("![")[0].rstrip("\n") + "\n"
    )


WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "report.yml").read_text())
# Stands in for GitHub's program, which is not a Python package: keeps its arguments and the comment.
GH = """#!/bin/sh
echo "$GH_TOKEN" "$@" >> gh.txt
while [ "$1" != --body-file ]; do shift; done
cp "$2" posted.md
"""


def review(checkout: Checkout, base: str) -> str:
    """Runs the commands of the workflow, but for the installation, as for a pull request; returns the comment."""
    programs = checkout.folder / ".fcn" / "programs"
    programs.mkdir(parents=True)
    (programs / "gh").write_text(GH)
    (programs / "gh").chmod(0o755)
    known = {
        "github.event.pull_request.base.sha": base,
        "github.event.pull_request.html_url": "https://github.com/a/b/pull/7",
        "github.token": "token",
        "steps.files.outputs.artifact-url": "https://github.com/a/b/actions/runs/1/artifacts/2",
    }
    steps: list[dict[str, Any]] = [step for step in WORKFLOW["jobs"]["report"]["steps"] if "run" in step]
    assert steps.pop(0)["run"] == "make .venv/.ready"
    for step in steps:
        assert "${{" not in step["run"]  # the values of a pull request never reach a shell as code
        environment = {name: known[text.strip("${} ")] for name, text in step.get("env", {}).items()}
        environment |= {"GITHUB_STEP_SUMMARY": "summary.md", "PATH": f"{programs}:{checkout.forking()['PATH']}"}
        checkout.run("bash", "-e", "-c", step["run"], **environment)
    assert checkout.read("gh.txt") == (
        "token pr comment https://github.com/a/b/pull/7 --edit-last --create-if-none --body-file comment.md\n"
    )
    assert checkout.read("summary.md") == checkout.read("posted.md")
    return checkout.read("posted.md")


@pytest.fixture
def pulled(compared: Checkout, tmp_path: Path) -> tuple[Checkout, str]:
    """A clone, without data, of the experiment `high` as a commit, and the commit that it would be merged to."""
    ref = next(ref for ref in compared.experiments() if ref.endswith("/high"))
    base = compared.run("git", "rev-parse", "HEAD").strip()
    compared.run("git", "branch", "--force", "high-branch", ref)
    compared.run("git", "clone", "--quiet", "--branch", "high-branch", str(compared.folder), str(tmp_path / "clone"))
    compared.run("git", "branch", "--quiet", "-D", "high-branch")
    return Checkout.opened(tmp_path / "clone"), base


def test_a_pull_request_gets_a_comment_with_intervals_if_a_remote_has_the_predictions(
    compared: Checkout, pulled: tuple[Checkout, str], tmp_path: Path
) -> None:
    clone, base = pulled
    shutil.copytree(
        compared.folder / ".dvc/cache/files", tmp_path / "remote/files"
    )  # a remote in a folder is as a cache
    clone.run("dvc", "remote", "add", "--local", "--default", "store", str(tmp_path / "remote"))
    comment = review(clone, base)
    assert "| <code>finetune.fcn8s.lr\\_factor</code> | <code>0.5</code> | <code>3.0</code> |" in comment
    assert re.search(r"\| FCN-8s mean IU \|( \S+ \|){3} \S+ to \S+ \|", comment)
    linked = re.findall(r"(?m)^\[Images that (?:gained|lost) most with FCN-8s\]\((.*)\)$", comment)
    assert linked
    assert set(linked) == {"https://github.com/a/b/actions/runs/1/artifacts/2"}
    assert "![" not in comment
    files = {path.name for path in (clone.folder / "report").iterdir()}
    assert {"comment.md", "comparison.html"} < files
    assert len(files) == 2 + len(linked)
    assert clone.run("git", "worktree", "list").count("\n") == 1
    assert not (clone.folder / "data" / "resized").exists()


def test_without_a_remote_the_comment_has_scores_and_says_why_there_are_no_intervals(
    pulled: tuple[Checkout, str],
) -> None:
    clone, base = pulled
    comment = review(clone, base)
    assert "; no interval, for the reason below**" in comment
    assert "- without images and bootstrap: DVC's cache does not have data/resized of commit" in comment
    assert re.search(r"\| FCN-8s mean IU \|( \S+ \|){3}\n", comment)
    assert "| IU by class, FCN-8s, % |" in comment
    assert "Images that" not in comment


def test_a_pull_request_whose_results_are_of_other_params_gets_a_comment_that_says_so(
    pulled: tuple[Checkout, str],
) -> None:
    clone, base = pulled
    clone.run("git", "config", "user.email", "test@example.org")
    clone.run("git", "config", "user.name", "test")
    clone.set(lr=2e-3)
    clone.commit()
    assert "has no scores: its evaluation did not run, or with other params, code or data" in review(clone, base)
