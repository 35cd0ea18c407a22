"""Rows of groups in MLflow: a group's row has the rows of its experiments as children, and their mean scores.

The name of a DVC experiment says which group it belongs to, so that `fcn sync` finds groups from git alone.
"""

import re
from collections.abc import Mapping
from typing import Any

from fcn.tracking import identity
from fcn.tracking.store import Store

# DVC's name of an experiment: its group, the variant if they differ in more than the seed, and the seed; of a search,
# the number of the trial.
SEARCH = r"search-(fcn\d+s)-[0-9a-f]{7}"
MEMBER = re.compile(rf"(?:(seeds-[0-9a-f]{{7}}|{SEARCH})|(paper-[a-z]+-[0-9a-f]{{7}})-[a-z0-9-]+)-\d+")
GROUP = "fcn.group"  # tag of a group's row: its name
BEST = "best"  # tag of a search's row: the experiment with the best score
PRUNED = "pruned"  # tag of a trial's row: why it was stopped
SD = "_sd"  # suffix of a standard deviation


def of(experiment: str | None) -> str | None:
    """The group of a DVC experiment, if it belongs to one."""
    match = MEMBER.fullmatch(experiment or "")
    return match[1] or match[3] if match else None


def searched(group: str) -> str | None:
    """The net whose mean IU a group of trials is searched for; None if it is another group."""
    match = re.fullmatch(SEARCH, group)
    return match[1] if match else None


def is_of_seeds(group: str) -> bool:
    """Whether the experiments of a group differ only in their seed, so that means of their scores make sense."""
    return group.startswith("seeds-")


def row(runs: Store, group: str) -> Any:
    """The group's row; None if there is none."""
    return next(iter(runs.find(f"tags.`{GROUP}` = '{group}'")), None)


def create(runs: Store, group: str, values: Mapping[str, Any], tags: Mapping[str, str], began: int | None) -> str:
    """Creates a group's row. The store's lock must be held.

    values   params that its experiments have in common
    """
    own = {GROUP: group, "mlflow.source.name": identity.GRAPH, "mlflow.source.type": "PROJECT"}
    return runs.create(group, own | dict(tags), identity.flat(values), began)


def parent(runs: Store, experiment: str | None) -> dict[str, str]:
    """The tag that puts an experiment's row below its group's, if there is one."""
    group = of(experiment)
    found = row(runs, group) if group else None
    return {"mlflow.parentRunId": found.info.run_id} if found else {}
