"""`fcn ui`: serves MLflow's web UI on this machine."""

import os
import shutil

from fcn.experiments import sync
from fcn.runtime import machine
from fcn.runtime.errors import UserError
from fcn.tracking import store, table_view


def link(base: str, experiment: str) -> str:
    """URL of the runs table: one row per experiment, with scores, data, steps and learning rate."""
    return f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={table_view.VIEW}"


def serve(port: int) -> None:
    """Runs `fcn sync` and replaces this process by MLflow's server. With a remote server, only prints the URL."""
    print(sync.summary(sync.sync(20)), flush=True)
    experiment = store.Store().experiment
    if store.address().startswith("http"):
        print(f"experiments: {link(store.safe_address().rstrip('/'), experiment)}", flush=True)
        return
    server = shutil.which("mlflow")
    if server is None:
        raise UserError("mlflow is not on the PATH; run `source .venv/bin/activate`")
    print(f"experiments: {link(f'http://127.0.0.1:{port}', experiment)}", flush=True)
    # One worker and no job runner: 0.5 GB of memory instead of 3, and a third of the start-up time.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.address()  # not on the command line, which other users can see
    words = [server, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--default-artifact-root", str(machine.root() / "mlartifacts")]
    os.execv(server, words)
