"""How experiments are recorded in the store: a row for the whole, a child run for each stage below it.

The same whether a stage's own process writes them or `fcn sync` does, from files.
"""

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fcn import identity, machine
from fcn.identity import flat
from fcn.store import Rows, Store

COMPARED = ("iteration", "time", "loss", "val.mean_iu")


def curves(runs: Store, child: str, parent: str, stage: str, rows: Rows) -> None:
    """Points of curves on a stage's run; on the experiment's row those by which two experiments are compared."""
    runs.points(child, rows)
    chosen = [{key: value for key, value in row.items() if key in COMPARED} for row in rows]
    runs.points(parent, chosen, f"{stage}/")


def row(
    runs: Store, values: Mapping[str, object], code: Mapping[str, str], name: str | None, tags: Mapping[str, str]
) -> str:
    """The experiment's row, found by its key or made."""
    key = identity.key(values, code, name)
    found = runs.find(f"tags.`fcn.key` = '{key}'")
    if found:
        return str(found[-1].info.run_id)  # the oldest, should two ever have been made
    return new_row(runs, values, code, name, tags)


def new_row(
    runs: Store,
    values: Mapping[str, object],
    code: Mapping[str, str],
    name: str | None,
    tags: Mapping[str, str],
    began: int | None = None,
) -> str:
    """A new row with all params; `fcn.base` is the key that it would have without DVC's name for it."""
    key = identity.key(values, code, name)
    pairs = flat(values)
    own = {"fcn.key": key, "fcn.base": identity.key(values, code, None), "mlflow.source.name": identity.GRAPH}
    own |= {"mlflow.source.type": "PROJECT"} | ({"dvc.experiment": name} if name else {})
    return runs.create(name or f"{pairs['data.dataset']}-{key[:7]}", {**own, **tags}, pairs, began)


def child(
    runs: Store,
    parent: str,
    stage: str,
    declared: Mapping[str, object],
    tags: Mapping[str, str],
    began: int | None = None,
) -> str:
    """A new child run for a stage."""
    name = runs.client.get_run(parent).data.tags.get("dvc.experiment")
    own = {"stage": stage, "mlflow.parentRunId": parent, "mlflow.source.name": f"{identity.GRAPH}:{stage}"}
    own |= {"mlflow.source.type": "PROJECT"} | ({"dvc.experiment": name} if name else {})
    return runs.create(stage, {**own, **tags}, flat(declared), began)


def lock_file(run: str) -> Path:
    """What the process that logs a run holds, so that one that was killed can be told from one at work."""
    return machine.root() / ".fcn" / "locks" / f"run-{run}"


def place() -> str:
    """This checkout on this machine, so that another's run is never taken for one that a kill left here."""
    return hashlib.sha256(f"{platform.node()}:{machine.root()}".encode()).hexdigest()


def origin() -> dict[str, str]:
    """The commit that the code comes from; never the remote's address, which may carry a token."""
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {"mlflow.source.git.commit": answer.stdout.strip()} if answer.returncode == 0 else {}


def environment() -> dict[str, str]:
    """Host, processor and versions as tags, for `fcn report --with-env`."""
    facts = {"host": platform.node()} | machine.facts()
    versions = {f"version.{package}": version for package, version in machine.versions().items()}
    return {f"fcn.{key}": str(value) for key, value in (facts | versions).items()}
