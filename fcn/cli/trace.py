"""Show the provenance of a model: stage, params, data, parents, commit and MLflow run."""

import argparse

EXAMPLE = "fcn trace data/weights/fcn8s.safetensors"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", help="a model file, the beginning of its sha256, or the name or id of an MLflow run")
    parser.add_argument(
        "--commits", type=int, default=100, metavar="N", help="number of newest commits with results to search"
    )


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    machine.prepare()
    from fcn.experiments.trace import trace

    for line in trace(arguments.what, arguments.commits):
        print(line)
