"""Run an experiment with several seeds, and show the mean and standard deviation of its scores.

The first seed is that of params.yaml. Finished experiments are not run again: to go on after an interruption, or to
add seeds, run the command again.
"""

import argparse

EXAMPLE = "fcn seeds 5 -S lr=1e-4"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("count", type=int, metavar="N", help="number of seeds: that of params.yaml and those after it")
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        dest="changes",
        metavar="KEY=VALUE",
        help="change a value of params.yaml, as for `dvc exp run`; may be repeated",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of experiments at a time (default 1)")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine
    from fcn.runtime.errors import UserError

    if arguments.jobs < 1:
        raise UserError(f"--jobs is {arguments.jobs}; write 1 or more")
    machine.prepare()
    from fcn.experiments import seeds

    seeds.run(arguments.count, arguments.changes, arguments.jobs)
