"""MLflow's model registry: registers a trained net, and finds the version to serve.

It uses the store of fcn.tracking.store. mlflow.pyfunc is imported only here and in fcn.serving.server, inside
functions: the import takes seconds, and only `fcn register` and `fcn serve` need it. The registry has MLflow's only
copy of the weights; runs have their digest and path.
"""

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn.ladder import GEOMETRIC
from fcn.runtime import files
from fcn.runtime.errors import UserError
from fcn.tracking import logged_models, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME, ALIAS, CHALLENGER = "fcn", "champion", "challenger"
PACKAGE = Path(__file__).parent.parent  # fcn, which is stored with the weights
MODEL = f"models:/{NAME}@{ALIAS}"
# What a served model imports.
PACKAGES = ("mlflow", "numpy", "pandas", "pillow", "psutil", "safetensors", "tifffile", "torch")


@dataclass(frozen=True)
class Registered:
    """A registered version.

    new      False if the same weights, code and packages were registered before
    alias    ALIAS if it is the version to serve, else CHALLENGER
    reason   why it is the challenger
    """

    version: str
    new: bool
    alias: str
    reason: str


def register(path: Path, as_champion: bool = False) -> Registered:
    """Registers a model file, as the one to serve if it is not worse than the current one on the same data.

    as_champion   whether to serve it in any case
    raises        UserError if the file is not a net with classes
    """
    from fcn.inference import prediction

    net, labels, _ = prediction.load(path)
    requirements = [f"{package}=={version(package).partition('+')[0]}" for package in PACKAGES]
    tags = {"model.sha256": files.sha256(path), "model.path": path.as_posix(), "code.sha256": _code_digest()}
    tags["requirements"] = " ".join(requirements)
    with _store() as client, store.locked():
        runs = store.Store()
        same = [old for old in _versions(client) if all(old.tags.get(key) == value for key, value in tags.items())]
        intact = [str(old.version) for old in same if _is_intact(old)]
        reason = "" if as_champion else rejection(runs, _current(client), tags["model.sha256"])
        number = (
            intact[0] if intact else _log(client, runs.experiment, path, tags, requirements, net.inputs, len(labels))
        )
        if not reason and _aliases(client).get(CHALLENGER) == number:
            client.delete_registered_model_alias(NAME, CHALLENGER)
        client.set_registered_model_alias(NAME, CHALLENGER if reason else ALIAS, number)
    return Registered(number, not intact, CHALLENGER if reason else ALIAS, reason)


def rejection(runs: store.Store, current: Any, sha256: str) -> str:
    """Why a net does not replace the version that is served; empty if it does.

    It does if its mean IU is not less on any split that both were scored on, and if there is such a split.

    current   the version that is served, if there is one
    sha256    of the net's file
    """
    if current is None or current.tags.get("model.sha256") == sha256:
        return ""
    scored, served = (logged_models.mean_iu(runs, digest) for digest in (sha256, current.tags.get("model.sha256", "")))
    shared = [split for split in scored if split in served]
    if not shared:
        return f"there is no split that both it and version {current.version} were scored on"
    worse = [split for split in shared if scored[split] < served[split]]
    if not worse:
        return ""
    split, *_ = worse
    return f"its mean IU on {split[0]} is {scored[split]:.4f}, that of version {current.version} {served[split]:.4f}"


def _aliases(client: "MlflowClient") -> dict[str, str]:
    found = client.search_registered_models(f"name = '{NAME}'")
    return {alias: str(number) for alias, number in found[0].aliases.items()} if found else {}


def _current(client: "MlflowClient") -> Any:
    """The version that is served; None if there is none."""
    number = _aliases(client).get(ALIAS)
    return client.get_model_version(NAME, number) if number else None


def champion() -> tuple[str, Path]:
    """The version to serve, and the folder of its files.

    raises   UserError if there is none, if its files have changed since they were registered, or if they were
             registered with other code than this process runs
    """
    with _store() as client:
        store.Store()  # updates the artifact URIs of a database that was moved
        if not client.search_registered_models(f"name = '{NAME}'"):
            raise UserError(f"no model is registered in {store.safe_address()}; run `fcn register`")
        version = client.get_model_version_by_alias(NAME, ALIAS)
        if version.tags.get("code.sha256") != _code_digest():
            raise UserError(
                f"version {version.version} was registered with other code than the current; run `fcn register` again"
            )
        if not _is_intact(version):
            raise UserError(
                f"the files of version {version.version} are not those that were registered; "
                "run `fcn register` again to store them as a new version"
            )
        return str(version.version), _download(version)


def _is_intact(version: Any) -> bool:
    """Whether the stored weights, code and metadata are those of `fcn register`. Loading them runs their code."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(version.tags.get("files.sha256") == _digest(_download(version)))
    except (OSError, MlflowException):  # a file is missing
        return False


def _download(version: Any) -> Path:
    """The folder of a version's files; downloaded if the store is a server."""
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(version.source))


def _digest(folder: Path) -> str:
    """Digest of a model's files, without those that MLflow and Python add when they load it."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "registered_model_meta")
    lines = (
        f"{files.sha256(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in paths
        if path.parent.name != "__pycache__"
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@contextmanager
def _store() -> Iterator["MlflowClient"]:
    """Sets MLflow to the store. Errors of MLflow, its driver or its network become a UserError of one line."""
    store.configure()
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        mlflow.set_tracking_uri(store.address())
        yield mlflow.MlflowClient()
    except (MlflowException, SQLAlchemyError, ImportError) as error:  # ImportError: the database driver is missing
        raise UserError(f"MLflow's store {store.safe_address()} failed ({store.reason(error)})") from None


def _code_digest() -> str:
    """Digest of the package that is stored with the weights."""
    return hashlib.sha256("".join(map(files.sha256, sorted(PACKAGE.rglob("*.py")))).encode()).hexdigest()


def _versions(client: "MlflowClient") -> list[Any]:
    """The registered versions, newest first; empty if there are none."""
    return sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda old: -int(old.version))


def _log(
    client: "MlflowClient",
    experiment: str,
    path: Path,
    tags: dict[str, str],
    requirements: list[str],
    inputs: Mapping[str, int],
    paths: int,
) -> str:
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    from fcn.serving.response import columns

    takes = Schema([ColSpec(DataType.string, column) for column in columns(inputs).values()])
    kinds: dict[str, Any] = {
        "mask": DataType.string,
        "classes": Array(DataType.string),
        "shares": Array(DataType.double),
    }
    returns = Schema(
        [ColSpec(kind, prefix + name) for prefix in ("", GEOMETRIC)[:paths] for name, kind in kinds.items()]
    )
    training_runs = client.search_runs([experiment], f"tags.`model.sha256` = '{tags['model.sha256']}'", max_results=1)
    mlflow.set_experiment(experiment_id=experiment)
    info = Model.log(
        artifact_path=None,
        name=path.stem,
        flavor=mlflow.pyfunc,
        run_id=training_runs[0].info.run_id if training_runs else None,
        python_model=str(Path(__file__).with_name("pyfunc.py")),
        code_paths=[str(PACKAGE)],
        artifacts={"weights": str(path)},
        signature=ModelSignature(takes, returns),
        input_example=_example(inputs),
        pip_requirements=requirements,
        tags=tags,
    )
    if not _versions(client) and not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(NAME)
    run = training_runs[0].info.run_id if training_runs else None
    created = client.create_model_version(NAME, info.model_uri, run, tags, model_id=info.model_id)
    client.set_model_version_tag(NAME, created.version, "files.sha256", _digest(_download(created)))
    return str(created.version)


def _example(inputs: Mapping[str, int]) -> Any:
    """A record of small files."""
    import numpy as np
    import pandas as pd
    import tifffile
    from PIL import Image

    from fcn.serving.response import columns

    record = {}
    for kind, column in columns(inputs).items():
        file = io.BytesIO()
        if kind == "bands":
            tifffile.imwrite(file, np.full((32, 32, inputs[kind]), 100, np.uint8), photometric="minisblack")
        else:
            colour = {"depth": ("I;16", 2000), "infrared": ("L", 100)}.get(kind, ("RGB", (70, 130, 180)))
            Image.new(colour[0], (32, 32), colour[1]).save(file, "png")
        record[column] = base64.b64encode(file.getvalue()).decode()
    return pd.DataFrame([record])
