"""Add all committed experiments and DVC experiments to MLflow, also stages that DVC skipped or restored."""

import argparse

EXAMPLE = "git pull && dvc exp pull origin NAME && fcn sync"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--commits",
        type=int,
        default=20,
        metavar="N",
        help="number of newest commits with results to read (default 20)",
    )


def run(arguments: argparse.Namespace) -> None:
    from fcn.experiments.sync import sync

    for line in sync(arguments.commits):
        print(line, flush=True)
