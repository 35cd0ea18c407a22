"""The nets as MLflow's logged models: a model for each set of weights, with the scores of every split it was scored on.

The weights stay in `data/weights`; the model has their sha256. `fcn register` logs models of its own, with weights.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fcn.ladder import NETS
from fcn.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

EXTERNAL = "mlflow.model.isExternal"  # MLflow's tag of a model whose files are not in the store
OLDEST = {"field_name": "creation_time", "ascending": True}


def find(runs: Store, name: str, sha256: str) -> "LoggedModel | None":
    """The model with this name and these weights, with all its metrics; None if there is none.

    name   of a net of the ladder
    """
    condition = f"name = '{name}' AND tags.`model.sha256` = '{sha256}' AND tags.`{EXTERNAL}` = 'true'"
    found = runs.client.search_logged_models([runs.experiment], condition, order_by=[OLDEST])
    return found[0] if found else None


def mean_iu(runs: Store, sha256: str) -> dict[tuple[str, str], float]:
    """The mean IU of a net on each split that it was scored on, by the split's name and digest.

    sha256   of the net's file
    """
    condition = f"tags.`model.sha256` = '{sha256}' AND tags.`{EXTERNAL}` = 'true'"
    found = runs.client.search_logged_models([runs.experiment], condition, order_by=[OLDEST])
    scores = [score for model in found for score in model.metrics or [] if score.key.endswith(".mean_iu")]
    scores.sort(key=lambda score: score.timestamp)  # the last one counts
    return {(str(score.dataset_name), str(score.dataset_digest)): score.value for score in scores}


def add(
    runs: Store, name: str, sha256: str, tags: Mapping[str, str], values: Mapping[str, object], made: Sequence[Any]
) -> None:
    """Adds a net, unless the store has it, and makes it an output of the stage's run and of the row.

    The caller holds the store's lock, so that a net is added only once. The run of the stage that first made these
    weights is the model's source.

    name     of a net of the ladder; others are not added
    values   params that the net was trained with
    made     the stage's run, and its row
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    if name not in NETS:
        return
    model = find(runs, name, sha256)
    if model is None:
        model = runs.client.create_logged_model(
            runs.experiment,
            name,
            made[0].info.run_id,
            {**tags, "model.sha256": sha256, EXTERNAL: "true"},
            {key: str(value) for key, value in values.items()},
            NETS[name],
        )
    if model.status != LoggedModelStatus.READY:  # new, or its process was killed here
        runs.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    for run in made:
        if model.model_id not in {output.model_id for output in run.outputs.model_outputs}:
            runs.client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])


def evaluated(runs: Store, run: str, models: Mapping[str, "LoggedModel"]) -> None:
    """Makes nets inputs of the run that scores them. Repeating it changes nothing.

    models   by name of the net
    """
    from mlflow.entities import LoggedModelInput

    if models:
        runs.client.log_inputs(run, models=[LoggedModelInput(model.model_id) for model in models.values()])
