"""The registered net behind HTTP, on this machine alone."""

import logging
import os
import socket

from fcn import machine, registry
from fcn.errors import UserError

SECONDS = 600  # that a prediction may take with all that wait before it; MLflow's 60 are few for a CPU
HOST = "127.0.0.1"


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
        number = registry.champion()
        os.environ.setdefault("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", str(SECONDS))
        machine.prepare()
        import uvicorn
        from mlflow.pyfunc import load_model, scoring_server

        logging.getLogger("mlflow.pyfunc.scoring_server").setLevel(logging.ERROR)  # else some lines a bad request
        from fcn.answers import BYTES
        from fcn.door import Door

        app = Door(scoring_server.init(load_model(registry.MODEL)), BYTES // 3 * 4 + (1 << 16))
        address = f"http://{HOST}:{listener.getsockname()[1]}/invocations"
        print(f"{registry.NAME} version {number} answers at {address}; Ctrl-C ends it", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
