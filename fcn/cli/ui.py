"""Open MLflow on all that is committed or an experiment of DVC: sync, then serve."""

import argparse

EXAMPLE = "fcn ui --port 5001"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=5000, help="of this machine alone (default 5000)")


def run(arguments: argparse.Namespace) -> None:
    from fcn.experiments import ui

    ui.serve(arguments.port)
