"""Going back to earlier params computes nothing: DVC restores the results from its run cache."""

import re
from pathlib import Path

import pytest
from conftest import Checkout

pytestmark = pytest.mark.slow


def ran(printed: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", printed)


def restored(printed: str) -> list[str]:
    return re.findall(r"Stage '(\w+)' is cached - skipping run", printed)


def results(folder: Path) -> dict[str, bytes]:
    """All of an experiment's files that DVC tracks, by path."""
    found = [folder / "dvc.lock", *(folder / "data").rglob("*"), *(folder / "metrics").rglob("*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.is_file()}


def test_an_earlier_value_is_restored_and_not_trained_again(ready: Checkout) -> None:
    rungs = ["train", "finetune16s", "finetune8s", "evaluate"]
    before = results(ready.folder)
    assert len([path for path in before if path.endswith(".csv")]) == 11
    ready.set(lr=0.002)
    assert ran(ready.run("dvc", "repro")) == [*rungs, "report"]
    other = results(ready.folder)
    assert other["metrics/scores.json"] != before["metrics/scores.json"]
    for lr, expected in ((0.001, before), (0.002, other)):
        ready.set(lr=lr)
        printed = ready.run("dvc", "repro")
        assert restored(printed) == rungs
        assert ran(printed) == ["report"]  # seconds: rewrites files that only git tracks, updates MLflow
        assert results(ready.folder) == expected


def test_a_value_of_one_rung_restores_what_stands_below_it(ready: Checkout) -> None:
    for factor, runs in ((0.2, True), (0.5, False), (0.2, False)):
        ready.set(**{"finetune.fcn8s.lr_factor": factor})
        assert ran(ready.run("dvc", "repro")) == (["finetune8s", "evaluate"] if runs else []) + ["report"]


def test_another_data_set_leaves_no_file_of_the_last_and_the_last_is_restored(ready: Checkout) -> None:
    """Four images instead of six."""
    before = results(ready.folder)
    ready.set(**{"data.scenes.train": 4, "data.scenes.seed": 5})
    assert ran(ready.run("dvc", "repro", "resize")) == ["download", "resize"]
    now = {path for path in results(ready.folder) if path.startswith("data/raw/image/train")}
    assert now == {f"data/raw/image/train_000{i}.png" for i in range(4)}
    ready.set(**{"data.scenes.train": 6, "data.scenes.seed": 0})
    printed = ready.run("dvc", "repro")
    assert restored(printed) == ["download", "resize"]
    assert ran(printed) == []
    assert results(ready.folder) == before
