"""Answer requests with the masks of their images, on this machine alone; docs/serving.md shows how to ask."""

import argparse

from fcn.runtime.errors import UserError

EXAMPLE = "fcn register && fcn serve --port 5001"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=5001, help="on 127.0.0.1; 5001 by default, 0 for any that is free")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer requests for this host name too, as those of a proxy; may be repeated",
    )
    parser.add_argument("--seconds", type=float, default=600, help="of computing that a request may take; 600")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    machine.prepare()
    from fcn.serving import server

    if not 0 < arguments.seconds <= 86_400:
        raise UserError(f"--seconds is {arguments.seconds:g}; it must be greater than 0, and a day at most")
    server.serve(arguments.port, arguments.allow_host, arguments.seconds)
