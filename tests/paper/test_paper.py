"""`fcn paper`: the table of findings, the rule of the verdicts, and the page from real experiments."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT, Checkout, Fcn
from mlflow_store import runs
from scipy import stats

from fcn.experiments import group, precheck
from fcn.experiments.history import Snapshot
from fcn.paper import page, verdict
from fcn.paper.findings import FINDINGS, Comparison, Finding, Row
from fcn.paper.members import Members
from fcn.paper.scales import SCALES, Scale, Variant
from fcn.tracking import groups


@pytest.mark.parametrize("name", SCALES)
def test_every_variant_of_a_scale_is_an_experiment_that_can_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for variant in SCALES[name]().variants.values():
        precheck.check(variant.params())


def test_each_variant_is_needed_by_a_finding_and_equal_ones_share_their_experiments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    scale = SCALES["tiny"]()
    planned = Members.plan(scale, scale.findings(), 2)
    assert planned.planned["vgg"] == planned.planned["one-stage"]
    assert len({str(one.params) for one in planned.all}) == len(planned.all) == 2 * (len(scale.variants) - 2)
    assert {row.variant for finding in scale.findings() for row in finding.rows} == set(scale.variants)


def test_comparisons_name_rows_of_their_finding_and_figures_of_the_paper_have_a_source() -> None:
    assert len({finding.name for finding in FINDINGS}) == len(FINDINGS)
    for finding in FINDINGS:
        labels = [row.label for row in finding.rows]
        assert len(set(labels)) == len(labels)
        assert {label for one in finding.comparisons for label in (one.first, one.second)} <= set(labels)
        assert bool(finding.source) == any(row.paper is not None for row in finding.rows)


def test_a_row_shows_a_net_that_its_variant_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for make in SCALES.values():
        scale = make()
        for finding in scale.findings():
            for row in finding.rows:
                stride = int(re.sub(r"\D", "", scale.net_of(row)))
                assert scale.variants[row.variant].params().rung(stride).iterations > 0, (scale.name, row)


def test_learning_regimes_see_equally_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("tiny", "laptop"):
        variants = SCALES[name]().variants
        seen = [
            params.batch_size * params.finetune.fcn8s.iterations
            for params in (variants[regime].params() for regime in ("one-stage", "accumulated", "online", "heavy"))
        ]
        assert len(set(seen)) == 1


def test_the_interval_of_a_difference_is_welchs() -> None:
    """1, 2, 3 and 4, 6, 8: variances 1 and 4, standard error sqrt(5 / 3), freedom (5/3)² / ((1/9 + 16/9) / 2)."""
    found = verdict.difference([4, 6, 8], [1, 2, 3])
    margin = stats.t.ppf(0.975, 50 / 17) * math.sqrt(5 / 3)
    assert (found.mean, found.low, found.high) == pytest.approx((4, 4 - margin, 4 + margin))


@pytest.mark.parametrize(
    ("low", "high", "higher", "same", "none"),
    [
        (1, 3, "holds", "different", "different"),
        (-3, -1, "reversed", "different", "different"),
        (-1, 3, "not distinguishable", "consistent", "not distinguishable"),
        (0, 2, "not distinguishable", "consistent", "not distinguishable"),
    ],
)
def test_a_verdict_follows_from_the_side_of_zero_that_the_interval_is_on(
    low: float, high: float, higher: str, same: str, none: str
) -> None:
    found = verdict.Difference((low + high) / 2, low, high)
    assert [found.judge("higher"), found.judge("same"), found.judge("none")] == [higher, same, none]


def test_equal_values_of_every_seed_have_an_interval_without_width() -> None:
    assert verdict.difference([2, 2], [1, 1]) == verdict.Difference(1, 1, 1)


def finished(*values: float) -> list[Snapshot]:
    """Experiments with the same value for every score of FCN-8s."""
    states = []
    for value in values:
        state = Snapshot("x", {"metrics/classes.csv": f"class,fcn8s\ncar,{value}\nsky,0.0\n".encode()}, 0)
        scores = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")
        vars(state)["scores"] = {f"fcn8s.{score}": value for score in scores}
        states.append(state)
    return states


FINDING = Finding(
    "test",
    "Title | with <signs>",
    "A is higher.",
    (Row("A", "a", paper=62.7), Row("B", "b")),
    (Comparison("A", "B", "higher"), Comparison("B", "A", "higher"), Comparison("A", "B", "same")),
    "Table 2",
    classes=("car",),
)
SCALE = Scale("tiny", "words", "fcn8s", {})


def test_a_section_has_ours_and_the_papers_in_columns_of_their_own_and_says_what_holds() -> None:
    one = page.section(SCALE, FINDING, {"a": finished(0.5, 0.51, 0.52), "b": finished(0.1, 0.11, 0.12)})
    assert one is not None
    assert one.header[-2:] == ["mean IU of car", "published: mean IU"]
    assert one.rows == [["A", *["51.0 ± 1.0"] * 5, "62.7"], ["B", *["11.0 ± 1.0"] * 5, "—"]]
    assert [words.partition(" (")[0] for words in one.words] == [
        "A against B: the claim holds here: higher",
        "B against A: the claim is reversed here: lower",
        "A against B: the claim of no difference does not hold here: higher",
    ]


def test_a_finding_with_an_unfinished_variant_has_no_section() -> None:
    assert page.section(SCALE, FINDING, {"a": finished(0.5, 0.6)}) is None


def test_the_pages_are_complete_and_escape_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = page.section(SCALE, FINDING, {"a": finished(0.5, 0.51), "b": finished(0.1, 0.12)})
    assert one is not None
    (tmp_path / "docs/paper").mkdir(parents=True)
    (tmp_path / "docs/paper/old.png").touch()
    html, markdown = page.write(page.Content(SCALE, 2, [one], ["Not <run>"], {"machine": "m", "written": "d"}))
    text = html.read_text()
    assert "Title | with &lt;signs&gt;" in text
    assert "Not &lt;run&gt;" in text
    assert "data:image/png;base64," in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "| A | 50.5 ± 0.7 |" in markdown.read_text()
    assert [path.name for path in (tmp_path / "docs/paper").iterdir()] == ["test.png"]


def test_changes_turn_the_params_of_the_checkout_into_those_of_any_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("scenes", "camvid", "voc-heavy", "voc-accumulated", "nyud-color"):
        wanted = Variant(name, ("lr=1e-5", "data.scale=[0.5, 2.0]")).params()
        assert group.changed(group.changes_to(wanted)) == wanted


def test_the_name_of_an_experiment_says_its_group_and_a_variant_is_planned_with_each_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    scale = SCALES["tiny"]()
    planned = Members.plan(scale, scale.findings(["fixed"]), 3)
    assert list(planned.planned) == ["staged", "fixed-skips", "fixed"]
    assert [one.name for one in planned.planned["fixed"]] == [f"{planned.name}-fixed-{seed}" for seed in (1, 2, 3)]
    assert {groups.of(one.name) for one in planned.all} == {planned.name}
    assert Members.plan(scale, scale.findings(), 2).name == planned.name
    assert not groups.is_of_seeds(planned.name)
    assert all(group.plan(one.name, one.changes) == one for one in planned.all)


def test_an_experiment_waits_while_dvc_has_changed_the_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC writes the changes of an experiment to params.yaml, copies the checkout, and restores params.yaml."""
    copy = tmp_path / "copy"
    subprocess.run(["git", "init", "-q", str(copy)], check=True)
    shutil.copy(ROOT / "params.yaml", copy)
    commit = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "x"]
    subprocess.run(["git", "add", "."], cwd=copy, check=True)
    subprocess.run(commit, cwd=copy, check=True)
    monkeypatch.chdir(copy)
    planned, text = group.plan("x", ["seed=2"]), Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("lr: 1.0e-3", "lr: 1.0e-2"))
    timer = threading.Timer(1.0, Path("params.yaml").write_text, [text])
    timer.start()
    group._await_unchanged(planned)
    assert Path("params.yaml").read_text() == text
    timer.join()
    monkeypatch.setattr(group, "SETTLE", 0.1)
    Path("params.yaml").write_text(text.replace("lr: 1.0e-3", "lr: 1.0e-2"))
    with pytest.raises(group.UserError, match="params.yaml or the code changed"):
        group._await_unchanged(planned)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "nonsense"], "--only nonsense: the scale tiny has strides, "),
        (["--seeds", "1"], "1 seed have no spread; write at least 2"),
        (["--jobs", "0"], "--jobs is 0; write 1 or more"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    fcn: Fcn, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(ROOT)
    out, err, code = fcn("paper", *words)
    assert str(code).startswith(f"error: {message}"), (out, err)
    assert "\n" not in str(code)


def test_the_list_shows_each_variant_with_its_command(fcn: Fcn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    out, _, code = fcn("paper", "--scale", "full", "--only", "fixed", "--list")
    assert not code
    assert "fixed: staged, fixed, fixed-skips" in out
    assert "fcn recipe voc-heavy && dvc exp run -S finetune.fcn16s.iterations=0" in out
    assert "9 experiments; training takes about " in out


MINIATURE = """
import sys
from fcn.paper import run, scales
from fcn.runtime import machine
machine.prepare()
tiny = scales.SCALES["tiny"]()
short = (*scales.TINY_DATA, "data.scenes.train=8", "data.scenes.val=4", *scales.steps(4, 2, 2))
fixed = (*short, "finetune.fcn16s.freeze=backbone", "finetune.fcn8s.freeze=backbone")
variants = {"staged": scales.Variant("scenes", short), "fixed-skips": scales.Variant("scenes", fixed)}
variants["fixed"] = scales.Variant("scenes", (*short, *scales.steps(4, 0, 0), "train.freeze=backbone"))
scales.SCALES["tiny"] = lambda: scales.Scale("tiny", tiny.words, tiny.net, variants)
run.run("tiny", ["fixed"], 2, 2)
"""


@pytest.mark.slow
def test_a_killed_command_goes_on_and_writes_the_page_of_what_is_finished(ready: Checkout) -> None:
    command = [sys.executable, "-c", MINIATURE]
    with subprocess.Popen(
        command,
        cwd=ready.folder,
        env=ready.forking(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 600
        while not ready.run("git", "for-each-ref", "refs/exps/??/**").strip():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (ready.folder / "metrics/paper.html").exists()

    printed = ready.run("python", "-c", MINIATURE)
    assert "finished earlier; 1 of 6 done" in printed
    text = (ready.folder / "docs/paper.md").read_text()
    assert "## Frozen backbone or fine-tuning" in text
    assert "## FCN-32s, FCN-16s, FCN-8s" in text  # its one variant is finished too
    assert "## Backbones" not in text
    assert (ready.folder / "docs/paper/fixed.png").is_file()
    found = runs(ready)
    (top,) = (run for run in found if groups.GROUP in run.data.tags)
    below = [run.info.run_name for run in found if run.data.tags.get("mlflow.parentRunId") == top.info.run_id]
    assert len(below) == 6
    assert top.info.status == "FINISHED"
    assert not top.data.metrics  # no means over different experiments
    assert top.data.params["data.scenes.train"] == "8"
    assert "finetune.fcn16s.freeze" not in top.data.params

    (ready.folder / "mlflow.db").unlink()
    assert f"group {top.info.run_name}" in ready.run("fcn", "sync")
