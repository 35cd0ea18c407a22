"""Serves the registered net over HTTP, on this machine only."""

import logging
import os
import socket
from collections.abc import Sequence

from fcn.runtime import machine
from fcn.runtime.errors import UserError
from fcn.serving import registry

MAX_SECONDS = 600.0  # computing time of a request
MAX_CONNECTIONS = 256  # further clients get status 503
SHUTDOWN_TIMEOUT = 5  # seconds for a running computation to end after Ctrl-C
HOST = "127.0.0.1"


def serve(port: int, hosts: Sequence[str] = (), seconds: float = MAX_SECONDS) -> None:
    """Serves POST /invocations on the loopback until it is interrupted.

    It runs MLflow's scoring server behind fcn.serving.request_limits. `mlflow models serve` runs the same server, but
    neither limits the size of a request nor lets one add middleware that does.

    port     0 for any free port
    hosts    accepted host names, in addition to those of the loopback
    seconds  computing time limit of a request
    raises   UserError if no model is registered, or the port is in use
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be used ({error}); choose another with --port") from None
        number, folder = registry.champion()
        # MLflow's own timeout sends a response but does not stop the computation. It is only for a step that hangs.
        os.environ.setdefault("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", str(int(2 * seconds) + 60))
        machine.prepare()
        import uvicorn
        from mlflow.pyfunc import load_model, scoring_server

        logging.getLogger("mlflow.pyfunc.scoring_server").setLevel(logging.ERROR)  # no lines per bad request
        from fcn.serving.connections import Connection
        from fcn.serving.request_limits import RequestLimits
        from fcn.serving.response import MAX_BYTES

        max_length = MAX_BYTES // 3 * 4 + (1 << 16)  # all files in base64 and the JSON around it
        model = load_model(str(folder))
        columns: list[str] = model.metadata.get_input_schema().input_names()  # type: ignore[no-untyped-call]
        app = RequestLimits(scoring_server.init(model), max_length, seconds, hosts, columns)
        address = f"http://{HOST}:{listener.getsockname()[1]}/invocations"
        served = f"{registry.NAME} version {number} is served at {address}; it takes {' and '.join(columns)}"
        print(f"{served}; press Ctrl-C to stop", flush=True)
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_level="error",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
        )
        uvicorn.Server(config).run(sockets=[listener])
