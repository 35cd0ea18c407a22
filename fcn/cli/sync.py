"""Show in MLflow every committed experiment and every experiment of DVC, also what was skipped or restored."""

import argparse

EXAMPLE = "git pull && dvc exp pull origin NAME && fcn sync"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--commits", type=int, default=20, metavar="N", help="newest commits with results to look at (default 20)"
    )


def run(arguments: argparse.Namespace) -> None:
    from fcn.experiments.sync import sync

    for line in sync(arguments.commits):
        print(line, flush=True)
