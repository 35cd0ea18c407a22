"""Say whether environment, disk, DVC, MLflow and left-overs are in order; exit 1 if something is bad."""

import argparse

EXAMPLE = "fcn doctor --prune"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prune", action="store_true", help="remove resume states that are old or that nobody needs, none in use"
    )
    parser.add_argument(
        "--days", type=float, default=7.0, help="with --prune: how long a state was left alone (default 7)"
    )
    parser.add_argument("--full", action="store_true", help="compare all of DVC's cache, however long it takes")


def run(arguments: argparse.Namespace) -> None:
    import math
    import sys

    from fcn.runtime import machine

    machine.prepare()
    from fcn.experiments import doctor, leftovers

    if arguments.prune:
        for line in leftovers.prune(arguments.days):
            print(line)
    found = []
    for finding in doctor.findings(math.inf if arguments.full else doctor.CACHE_SECONDS):
        print(finding, flush=True)
        found.append(finding.level)
    if "bad" in found:
        sys.exit(1)
