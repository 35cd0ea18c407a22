"""The columns of MLflow's runs table, as a saved view of the experiment."""

import json

VIEW = "fcn"  # the saved view that `fcn ui` opens
# Columns and their widths in pixels: MLflow's names for its own columns, ours for params and metrics.
FIXED = {"0": 73, "attributes.`Run Name`": 200, "runDateAndNestInfo": 130}
COLUMNS = {
    "metrics.`fcn8s.mean_iu`": 115,
    "metrics.`fcn16s.mean_iu`": 115,
    "metrics.`fcn32s.mean_iu`": 115,
    "tags.`data`": 105,
    "tags.`images`": 90,
    "params.`data.size.train`": 125,
    "tags.`steps`": 140,
    "params.`lr`": 80,
    "metrics.`fcn8s.mean_iu_sd`": 135,  # of a group's row
    "attributes.`Source`": 80,
}


def experiment_tags() -> dict[str, str]:
    """Tags that make MLflow open its view for model training, and add a saved view with the main params and scores.

    MLflow 3.17 stores a saved view as JSON within JSON. It selects the kind of page by the link, older versions by the
    tag.
    """
    state = {
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*FIXED, *COLUMNS],
        "columnWidths": FIXED | COLUMNS,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
    }
    view = {"name": "Experiments", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(view),
    }
