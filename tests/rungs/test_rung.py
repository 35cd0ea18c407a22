"""A rung that is interrupted, and one whose weights are averaged."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from test_previews import prepared

from fcn.data.split import Split
from fcn.metrics import counting
from fcn.metrics.scores import scores
from fcn.params import Params
from fcn.rungs import checkpoint, rung
from fcn.runtime import machine
from fcn.training.steps import Step
from fcn.weights import model_file


def test_a_rung_that_is_stopped_shows_the_loss_so_far_in_mlflow_and_has_each_point_once_in_the_end(
    small: Callable[..., Params], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = small(**{"train.iterations": 30, "train.validate_every": 30})
    paths = prepared(tmp_path / "checkout", packed)
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.setattr(machine, "root", Path.cwd)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    steps = iter(range(1, 100))

    @contextmanager
    def stopped_at_25() -> Iterator[Callable[[], int]]:
        yield lambda: 15 if next(steps) == 25 else 0

    def losses() -> list[int]:
        client = mlflow.MlflowClient(store)
        (run,) = client.search_runs(["1"], "tags.stage = 'train'")
        return [point.step for point in client.get_metric_history(run.info.run_id, "loss")]

    def images() -> str:
        client = mlflow.MlflowClient(store)
        (row,) = client.search_runs(["1"], "tags.data = 'scenes'")
        return str(row.data.tags["images"])

    monkeypatch.setattr(rung, "signals", stopped_at_25)
    with pytest.raises(SystemExit):
        rung.train_rung(stride=32, params=experiment, **paths)
    assert losses() == [10, 20]
    rung.train_rung(stride=32, params=experiment, **paths)
    assert losses() == [10, 20, 30]
    assert images() == f"{len(Split(packed, 'train'))} + {len(Split(packed, 'val'))}"


def test_averaged_weights_are_scored_and_saved_and_outlive_a_kill(
    small: Callable[..., Params], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(machine, "root", Path.cwd)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    record_step = rung._record_step

    def die(step: Step, *others: Any) -> None:
        if step.number == 5:
            raise KeyboardInterrupt
        record_step(step, *others)

    found: dict[str, Any] = {}
    for name, average in (("plain", "none"), ("whole", 1.0), ("killed", 1.0), ("best", 1.0)):
        changes = {"train.average": average, "train.iterations": 6, "model.init_std": 0.5}
        changes["train.save"] = "best" if name == "best" else "last"
        experiment = small(**changes, **{"data.jitter": 3, "data.scale": [0.7, 1.5], "data.colour": 0.2})
        paths = prepared(tmp_path / name, packed)
        monkeypatch.chdir(tmp_path / name)
        if name == "killed":
            monkeypatch.setattr(rung, "_record_step", die)
            with pytest.raises(KeyboardInterrupt):
                rung.train_rung(stride=32, params=experiment, **paths)
            monkeypatch.setattr(rung, "_record_step", record_step)
        rung.train_rung(stride=32, params=experiment, **paths)
        found[name] = paths["out"].read_bytes()
        net, meta = model_file.build(paths["out"])
        with Path(paths["curves"], "val.csv").open() as file:
            validated = {int(row["iteration"]): float(row["mean_iu"]) for row in csv.DictReader(file)}
        score = scores(counting.count(net, Split(packed, "val"))[0].confusion).mean_iu
        assert validated[meta.iterations] == pytest.approx(score, abs=1e-12)
        found[f"weights of {name}"], found[f"scores of {name}"] = net.conv1_1.weight.detach(), validated
    assert found["killed"] == found["whole"]
    assert not torch.equal(found["weights of plain"], found["weights of whole"])
    assert found["scores of plain"] != found["scores of whole"] == found["scores of best"]
