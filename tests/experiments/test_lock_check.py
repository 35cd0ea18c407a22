"""`fcn check --lock` in clones without data: real DVC, on a graph of two stages and on the pipeline."""

import subprocess
from pathlib import Path

import pytest
from conftest import Checkout

from fcn.experiments import lock_check
from fcn.runtime.errors import UserError

GRAPH = """stages:
  make:
    cmd: mkdir -p data && cp code.txt data/made
    deps: [code.txt]
    params: [params.yaml: [lr]]
    outs: [data/made]
  use:
    cmd: cp data/made out.json
    deps: [data/made, more.txt]
    metrics: [out.json: {cache: false}]
"""


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose two stages have run."""
    folder = tmp_path_factory.mktemp("made")
    for name, content in {"dvc.yaml": GRAPH, "params.yaml": "lr: 1\n", "code.txt": "1\n", "more.txt": "x\n"}.items():
        (folder / name).write_text(content)
    run(folder, "git", "init", "--quiet")
    run(folder, "python", "-m", "dvc", "init", "--quiet")
    run(folder, "python", "-m", "dvc", "repro")
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "--message", "x")
    return folder


@pytest.fixture(params=[True, False], ids=["with data", "without data"])
def here(made: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of it with or without its cache and data, as the current folder."""
    run(tmp_path, "git", "clone", "--quiet", str(made), "clone")
    monkeypatch.chdir(tmp_path / "clone")
    if request.param:
        run(tmp_path / "clone", "python", "-m", "dvc", "cache", "dir", "--local", str(made / ".dvc" / "cache"))
        run(tmp_path / "clone", "python", "-m", "dvc", "checkout")
    return tmp_path / "clone"


def test_without_data_a_change_is_told_from_none(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "git", "clone", "--quiet", str(made), "clone")
    monkeypatch.chdir(tmp_path / "clone")
    assert lock_check.outdated() == []
    Path("more.txt").write_text("y\n")
    with pytest.raises(UserError, match="dvc.lock is not up to date: `dvc repro` would run use; "):
        lock_check.check()


@pytest.mark.slow
def test_a_clone_of_finished_results_is_up_to_date(here: Path) -> None:
    assert lock_check.outdated() == []
    lock_check.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "content", "first"),
    [
        ("params.yaml", "lr: 2\n", "make"),
        ("code.txt", "2\n", "make"),
        ("more.txt", "y\n", "use"),
        ("out.json", "{}\n", "use"),
        ("dvc.yaml", GRAPH.replace("cp data/made", "cat data/made >"), "use"),
    ],
)
def test_a_change_that_was_not_reproduced_names_the_stage(here: Path, file: str, content: str, first: str) -> None:
    (here / file).write_text(content)
    assert lock_check.outdated()[0] == first
    with pytest.raises(UserError, match=f"dvc.lock is not up to date: `dvc repro` would run {first}"):
        lock_check.check()


@pytest.mark.slow
def test_a_lock_without_a_stage_is_not_up_to_date(here: Path) -> None:
    lines = (here / "dvc.lock").read_text()
    (here / "dvc.lock").write_text(lines[: lines.index("  use:")])
    assert lock_check.outdated() == ["use"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        ("stages: 1\n", "expected a dictionary, in stages"),
        (GRAPH.replace("deps: [code.txt]", "depz: [code.txt]"), "extra keys not allowed, in stages -> make -> depz"),
    ],
)
def test_an_invalid_graph_is_one_line_with_dvcs_reason(here: Path, graph: str, reason: str) -> None:
    (here / "dvc.yaml").write_text(graph)
    with pytest.raises(UserError, match=f"`dvc repro --allow-missing --dry` failed .*dvc.yaml.* {reason}") as error:
        lock_check.check()
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_an_edited_param_or_stage_fails_the_check_of_a_clone_without_data(kept: Checkout, tmp_path: Path) -> None:
    kept.run("git", "clone", "--quiet", str(kept.folder), str(tmp_path / "clone"))
    clone = Checkout.opened(tmp_path / "clone")
    assert not (clone.folder / "data" / "resized").exists()
    assert clone.run("fcn", "check", "--lock") == "dvc.lock is up to date\n"
    for file, change, stage in (
        ("params.yaml", ("lr: 0.001", "lr: 0.002"), "train"),
        ("fcn/evaluation/verdict.py", ("FEW_IMAGES = 20", "FEW_IMAGES = 21"), "evaluate"),
        ("fcn/report/markdown.py", ("FEW_IMAGES = 10", "FEW_IMAGES = 11"), "report"),
    ):
        before = clone.read(file)
        (clone.folder / file).write_text(before.replace(*change))
        assert clone.read(file) != before
        printed = clone.run("fcn", "check", "--lock", code=1)
        assert printed.startswith(f"error: dvc.lock is not up to date: `dvc repro` would run {stage}; ")
        assert len(printed.splitlines()) == 1
        (clone.folder / file).write_text(before)
    assert clone.run("git", "status", "--porcelain") == ""
