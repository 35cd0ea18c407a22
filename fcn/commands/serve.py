"""Answer requests with the masks of their images, on this machine alone; docs/serving.md shows how to ask."""

import argparse

EXAMPLE = "fcn register && fcn serve --port 5001"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=5001, help="on 127.0.0.1; 5001 by default, 0 for any that is free")


def run(arguments: argparse.Namespace) -> None:
    from fcn import machine

    machine.prepare()
    from fcn import serving

    serving.serve(arguments.port)
