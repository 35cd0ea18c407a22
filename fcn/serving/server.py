"""The registered net behind HTTP, on this machine alone."""

import logging
import os
import socket
from collections.abc import Sequence

from fcn.runtime import machine
from fcn.runtime.errors import UserError
from fcn.serving import registry

SECONDS = 600.0  # of computing that a request may take
CONNECTIONS = 256  # at once; more get status 503
GRACE = 5  # seconds for what is computed to end, after Ctrl-C
HOST = "127.0.0.1"


def serve(port: int, hosts: Sequence[str] = (), seconds: float = SECONDS) -> None:
    """Answers POST /invocations on the loopback until it is interrupted.

    MLflow's scoring server behind fcn.serving.request_limits. It is what `mlflow models serve` runs,
    which has no bound for a request's size, and no place for one.

    port     0 for any that is free
    hosts    names by which clients may call it, beside those of the loopback
    seconds  of computing that a request may take
    raises   UserError if nothing is registered, or the port is taken
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be used ({error}); name another with --port") from None
        number, folder = registry.champion()
        # MLflow's own timeout answers, and computes on: it is for a step that does not come to its end.
        os.environ.setdefault("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", str(int(2 * seconds) + 60))
        machine.prepare()
        import uvicorn
        from mlflow.pyfunc import load_model, scoring_server

        logging.getLogger("mlflow.pyfunc.scoring_server").setLevel(logging.ERROR)  # else some lines a bad request
        from fcn.serving.connections import Connection
        from fcn.serving.request_limits import RequestLimits
        from fcn.serving.response import BYTES

        app = RequestLimits(scoring_server.init(load_model(str(folder))), BYTES // 3 * 4 + (1 << 16), seconds, hosts)
        address = f"http://{HOST}:{listener.getsockname()[1]}/invocations"
        print(f"{registry.NAME} version {number} answers at {address}; Ctrl-C ends it", flush=True)
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_level="error",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
        )
        uvicorn.Server(config).run(sockets=[listener])
