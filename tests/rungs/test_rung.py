"""A rung that is interrupted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from test_previews import prepared

from fcn.data.split import Split
from fcn.params import Params
from fcn.rungs import rung
from fcn.runtime import machine


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
