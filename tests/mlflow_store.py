"""What MLflow's store of a checkout holds: rows, their stages, curves, inputs and artifacts."""

from typing import Any

from conftest import Checkout
from mlflow import MlflowClient
from mlflow.entities import Run

STAGES = ["evaluate", "finetune16s", "finetune8s", "report", "train"]


def client(checkout: Checkout) -> MlflowClient:
    return MlflowClient(f"sqlite:///{checkout.folder}/mlflow.db")


def runs(checkout: Checkout) -> list[Run]:
    experiment = client(checkout).get_experiment_by_name("fcn")
    assert experiment is not None
    return list(client(checkout).search_runs([experiment.experiment_id], max_results=1000))


def rows(checkout: Checkout) -> dict[str, Run]:
    found = [run for run in runs(checkout) if "mlflow.parentRunId" not in run.data.tags]
    assert len({run.info.run_name for run in found}) == len(found)
    return {str(run.info.run_name): run for run in found}


def stages_of(checkout: Checkout, row: Run) -> dict[str, Run]:
    found = [run for run in runs(checkout) if run.data.tags.get("mlflow.parentRunId") == row.info.run_id]
    assert len({run.data.tags["stage"] for run in found}) == len(found)
    return {run.data.tags["stage"]: run for run in found}


def points(checkout: Checkout, run: Run) -> dict[str, list[tuple[int, float]]]:
    names = [name for name in run.data.metrics if not name.startswith("system/")]
    history = {name: client(checkout).get_metric_history(run.info.run_id, name) for name in names}
    return {name: [(point.step, point.value) for point in points] for name, points in history.items()}


def inputs(run: Run) -> list[tuple[str, str]]:
    return sorted((entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs)


def artifacts(checkout: Checkout, run: Run) -> set[str]:
    listed = [client(checkout).list_artifacts(run.info.run_id, folder) for folder in (None, "figures", "images")]
    return {artifact.path for folder in listed for artifact in folder if not artifact.is_dir}


def models(checkout: Checkout) -> list[Any]:
    """What the store says of the nets, but for ids and times: name, digest, tags, params, stages and scores."""
    stage = {run.info.run_id: run.data.tags.get("stage", "row") for run in runs(checkout)}
    links = [
        (output.model_id, stage[run.info.run_id]) for run in runs(checkout) for output in run.outputs.model_outputs
    ]
    experiment = client(checkout).get_experiment_by_name("fcn")
    assert experiment is not None
    found = client(checkout).search_logged_models([experiment.experiment_id])
    external = [model for model in found if model.tags.get("mlflow.model.isExternal") == "true"]
    return sorted(
        (
            model.name,
            str(model.status),
            sorted(model.tags.items()),
            sorted(model.params.items()),
            stage.get(model.source_run_id),
            sorted(made for output, made in links if output == model.model_id),
            sorted((score.key, score.value, score.dataset_name, score.dataset_digest) for score in model.metrics or []),
        )
        for model in external
    )


def table(checkout: Checkout) -> dict[str, Any]:
    """What the whole store says of each experiment and its stages, but for ids and times."""

    def shown(run: Run) -> dict[str, str | None]:
        return {name: run.data.tags.get(name) for name in ("data", "images", "steps")}

    return {
        name: {
            stage: (
                run.data.params,
                shown(run),
                points(checkout, run),
                inputs(run),
                artifacts(checkout, run),
                run.info.status,
            )
            for stage, run in {"": row, **stages_of(checkout, row)}.items()
        }
        for name, row in rows(checkout).items()
    }
