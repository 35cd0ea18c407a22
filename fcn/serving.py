"""A trained net in MLflow's model registry, and served from there on this machine.

The store is tracking's. mlflow.pyfunc is imported here, and late: it takes seconds, only the two commands
`fcn register` and `fcn serve` need it, and no stage comes near it. The registry holds MLflow's one copy
of the weights; runs carry their digest and path.
"""

import base64
import hashlib
import io
import logging
import os
import socket
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn import files, machine, store
from fcn.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME, ALIAS = "fcn", "champion"
MODEL = f"models:/{NAME}@{ALIAS}"
PACKAGES = ("mlflow", "numpy", "pandas", "pillow", "safetensors", "torch")  # what a served model imports
SECONDS = 600  # that a prediction may take with all that wait before it; MLflow's 60 are few for a CPU
HOST = "127.0.0.1"


def register(path: Path) -> tuple[str, bool]:
    """Makes a model file the newest version of the registered model, and the one that is served.

    returns  the version, and whether it is new: the same weights, code and packages are registered once
    raises   UserError if the file is no net with classes
    """
    from fcn import prediction

    prediction.load(path)
    client = _client()
    requirements = [f"{package}=={version(package).partition('+')[0]}" for package in PACKAGES]
    tags = {"model.sha256": files.sha256(path), "model.path": path.as_posix(), "code.sha256": _code()}
    tags["requirements"] = " ".join(requirements)
    with store.locked():
        experiment = store.Store().experiment
        known = _versions(client)
        found = [old.version for old in known if all(old.tags.get(key) == value for key, value in tags.items())]
        number = found[0] if found else _log(client, experiment, path, tags, requirements)
        client.set_registered_model_alias(NAME, ALIAS, number)
    return str(number), not found


def _client() -> "MlflowClient":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    for noisy in ("mlflow", "alembic"):  # after the import, which sets MLflow's own level
        logging.getLogger(noisy).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(store.address())
    return mlflow.MlflowClient()


def _code() -> str:
    """Digest of the package that goes along with the weights."""
    return hashlib.sha256("".join(map(files.sha256, sorted(Path(__file__).parent.rglob("*.py")))).encode()).hexdigest()


def _versions(client: "MlflowClient") -> list[Any]:
    """Newest first; none if the model is not registered."""
    return sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda old: -int(old.version))


def _log(client: "MlflowClient", experiment: str, path: Path, tags: dict[str, str], requirements: list[str]) -> str:
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    inputs = Schema([ColSpec(DataType.string, "image")])
    outputs = Schema(
        [
            ColSpec(DataType.string, "mask"),
            ColSpec(Array(DataType.string), "classes"),
            ColSpec(Array(DataType.double), "shares"),
        ]
    )
    trained = client.search_runs([experiment], f"tags.`model.sha256` = '{tags['model.sha256']}'", max_results=1)
    mlflow.set_experiment(experiment_id=experiment)
    info = Model.log(
        artifact_path=None,
        name=path.stem,
        flavor=mlflow.pyfunc,
        run_id=trained[0].info.run_id if trained else None,
        python_model=str(Path(__file__).with_name("served.py")),
        code_paths=[str(Path(__file__).parent)],
        artifacts={"weights": str(path)},
        signature=ModelSignature(inputs, outputs),
        input_example=_example(),
        pip_requirements=requirements,
        tags=tags,
    )
    if not _versions(client) and not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(NAME)
    run = trained[0].info.run_id if trained else None
    made = client.create_model_version(NAME, info.model_uri, run, tags, model_id=info.model_id)
    return str(made.version)


def _example() -> Any:
    import pandas as pd
    from PIL import Image

    png = io.BytesIO()
    Image.new("RGB", (32, 32), (70, 130, 180)).save(png, "png")
    return pd.DataFrame({"image": [base64.b64encode(png.getvalue()).decode()]})


def serve(port: int) -> None:
    """Answers POST /invocations on the loopback until it is interrupted: MLflow's scoring server behind fcn.door.

    It is what `mlflow models serve` runs; that has no bound for a request's size, and no place for one.

    port     0 for any that is free
    raises   UserError if nothing is registered, or the port is taken
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be used ({error}); name another with --port") from None
        number = _champion()
        os.environ.setdefault("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", str(SECONDS))
        machine.prepare()
        import uvicorn
        from mlflow.pyfunc import load_model, scoring_server

        logging.getLogger("mlflow.pyfunc.scoring_server").setLevel(logging.ERROR)  # else some lines a bad request
        from fcn.answers import BYTES
        from fcn.door import Door

        app = Door(scoring_server.init(load_model(MODEL)), BYTES // 3 * 4 + (1 << 16))
        address = f"http://{HOST}:{listener.getsockname()[1]}/invocations"
        print(f"{NAME} version {number} answers at {address}; Ctrl-C ends it", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def _champion() -> str:
    """The version to be served.

    raises   UserError if there is none, or it came with other code than this process runs
    """
    from mlflow.exceptions import MlflowException

    try:
        champion = _client().get_model_version_by_alias(NAME, ALIAS)
    except MlflowException:
        raise UserError(f"no model is registered in {store.address()}; run `fcn register`") from None
    if champion.tags["code.sha256"] != _code():
        raise UserError(
            f"version {champion.version} was registered with other code than this; run `fcn register` again"
        )
    return str(champion.version)
