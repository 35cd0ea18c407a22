"""Serve MLflow's web UI with all committed experiments and DVC experiments: `fcn sync`, then `mlflow server`."""

import argparse

EXAMPLE = "fcn ui --port 5001"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1 (default 5000)")


def run(arguments: argparse.Namespace) -> None:
    from fcn.experiments import ui

    ui.serve(arguments.port)
