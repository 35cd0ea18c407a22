"""Check the environment, disks, DVC, MLflow and what kills left behind; exit 1 if a check is "bad"."""

import argparse

EXAMPLE = "fcn doctor --prune"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prune", action="store_true", help="remove checkpoints that are old or not needed, unless in use"
    )
    parser.add_argument(
        "--days", type=float, default=7.0, help="with --prune: age in days from which a checkpoint is old (default 7)"
    )
    parser.add_argument("--full", action="store_true", help="compare all of DVC's cache, without a time limit")


def run(arguments: argparse.Namespace) -> None:
    import math
    import sys

    from fcn.runtime import machine

    machine.prepare()
    from fcn.experiments import doctor, leftovers

    if arguments.prune:
        for line in leftovers.prune(arguments.days):
            print(line)
    levels = []
    for finding in doctor.findings(math.inf if arguments.full else doctor.CACHE_SECONDS):
        print(finding, flush=True)
        levels.append(finding.level)
    if "bad" in levels:
        sys.exit(1)
