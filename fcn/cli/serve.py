"""Serve the registered net over HTTP, on this machine only; docs/serving.md shows requests."""

import argparse

from fcn.runtime.errors import UserError

EXAMPLE = "fcn register && fcn serve --port 5001"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=5001, help="port on 127.0.0.1 (default 5001); 0: any free one")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also accept requests for this host name, for example a proxy's; may be repeated",
    )
    parser.add_argument("--seconds", type=float, default=600, help="computing time limit of a request (default 600)")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    machine.prepare()
    from fcn.serving import server

    if not 0 < arguments.seconds <= 86_400:
        raise UserError(f"--seconds is {arguments.seconds:g}; it must be greater than 0 and at most 86400, a day")
    server.serve(arguments.port, arguments.allow_host, arguments.seconds)
