"""MLflow's pages, served to this machine's browser."""

import os
import shutil

from fcn.experiments import sync
from fcn.runtime import machine
from fcn.runtime.errors import UserError
from fcn.tracking import store


def link(base: str, experiment: str) -> str:
    """The table with one row an experiment, its scores, data, steps and rate."""
    return f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={store.VIEW}"


def serve(port: int) -> None:
    """Brings the store up to date and becomes MLflow's server; with a server of one's own, only says where to look."""
    print(sync.summary(sync.sync(20)), flush=True)
    experiment = store.Store().experiment
    if store.address().startswith("http"):
        print(f"experiments: {link(store.safe_address().rstrip('/'), experiment)}", flush=True)
        return
    server = shutil.which("mlflow")
    if server is None:
        raise UserError("mlflow is not on the path; `source .venv/bin/activate` puts it there")
    print(f"experiments: {link(f'http://127.0.0.1:{port}', experiment)}", flush=True)
    # One worker and no job runner: 0.5 GB instead of 3, and a third of the time to start.
    os.environ |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.address()  # every user of the machine sees a command line
    words = [server, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--default-artifact-root", str(machine.root() / "mlartifacts")]
    os.execv(server, words)
