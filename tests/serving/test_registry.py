"""Which registered net is served: the one that is not worse on the same data."""

import json
from pathlib import Path

import pytest
from conftest import Checkout
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion

from fcn.runtime import machine
from fcn.serving import registry
from fcn.tracking import logged_models
from fcn.tracking.datasets import Dataset
from fcn.tracking.store import Store

OLD, NEW = "a" * 64, "b" * 64  # sha256 of two nets
VAL, OTHER = (Dataset("scenes-val", digit * 32, "data/resized", "evaluation") for digit in "12")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with two nets."""
    monkeypatch.setattr(machine, "root", lambda: tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    runs = Store()
    run = runs.get(runs.create("train", {}, {}))
    for digest in (OLD, NEW):
        logged_models.add(runs, "fcn8s", digest, {}, {}, (run,))
    return runs


def score(runs: Store, sha256: str, mean_iu: float, dataset: Dataset) -> None:
    model = logged_models.find(runs, "fcn8s", sha256)
    assert model is not None
    runs.scores(runs.create("evaluate", {}, {}), {"fcn8s.mean_iu": mean_iu}, None, {"fcn8s": model}, dataset)


@pytest.fixture
def served(runs: Store) -> ModelVersion:
    """The version that is served: the old net."""
    runs.client.create_registered_model("fcn")
    runs.client.create_model_version("fcn", "file:///nowhere", tags={"model.sha256": OLD})
    return runs.client.get_model_version("fcn", "1")


def test_the_first_net_and_the_served_one_itself_need_no_scores(runs: Store, served: ModelVersion) -> None:
    assert registry.rejection(runs, None, NEW) == ""
    assert registry.rejection(runs, served, OLD) == ""


@pytest.mark.parametrize(("mean_iu", "reason"), [(0.5, ""), (0.6, ""), (0.49996, "")])
def test_a_net_that_is_not_worse_is_served(runs: Store, served: ModelVersion, mean_iu: float, reason: str) -> None:
    """Scores have four decimals."""
    score(runs, OLD, 0.5, VAL)
    score(runs, NEW, mean_iu, VAL)
    assert registry.rejection(runs, served, NEW) == reason


def test_a_worse_net_is_not_and_neither_is_one_that_was_scored_on_other_data(runs: Store, served: ModelVersion) -> None:
    score(runs, OLD, 0.5, VAL)
    score(runs, NEW, 0.9, OTHER)
    nothing_shared = "there is no split that both it and version 1 were scored on"
    assert registry.rejection(runs, served, NEW) == nothing_shared
    score(runs, NEW, 0.4, VAL)
    assert registry.rejection(runs, served, NEW) == "its mean IU on scenes-val is 0.4000, that of version 1 0.5000"


@pytest.mark.slow
def test_register_gives_the_alias_that_the_scores_allow_and_serves_any_net_on_request(ready: Checkout) -> None:
    ready.run("fcn", "sync")
    best = json.loads(ready.read("metrics/scores.json"))["fcn8s"]["mean_iu"]
    client = MlflowClient(f"sqlite:///{ready.folder}/mlflow.db")
    (model,) = client.search_logged_models(["1"], "name = 'fcn32s'")
    (score,) = (score for score in model.metrics or [] if score.key == "fcn32s.mean_iu")
    facts = (score.model_id, score.dataset_name, score.dataset_digest)
    client.log_batch(str(score.run_id), [Metric(score.key, 0.0001, score.timestamp + 1, 1, *facts)])  # scored again

    def register(net: str, *words: str) -> str:
        return ready.run("fcn", "register", "--model", f"data/weights/{net}.safetensors", *words)

    def aliases() -> dict[str, int]:
        return {alias: int(number) for alias, number in client.get_registered_model("fcn").aliases.items()}

    register("fcn8s")
    assert aliases() == {"champion": 1}
    printed = register("fcn32s")
    reason = f"its mean IU on scenes-val is 0.0001, that of version 1 {best:.4f}"
    assert f"is registered as version 2 of fcn, as challenger: {reason}; `fcn register --champion` serves it" in printed
    assert aliases() == {"champion": 1, "challenger": 2}
    register("fcn32s", "--champion")
    assert aliases() == {"champion": 2}
    register("fcn8s")
    assert aliases() == {"champion": 1}
