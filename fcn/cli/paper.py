"""Check the findings of the paper by experiments at one of three scales, and write a page about them.

Finished experiments are not run again: to go on after an interruption, run the command again.
"""

import argparse

EXAMPLE = "fcn paper --scale tiny --only strides --jobs 2"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scale",
        choices=("tiny", "laptop", "full"),
        default="tiny",
        help="embedded scenes, CamVid or the paper's data sets (default tiny)",
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a finding; may be repeated")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="experiments of each variant (default 3)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of experiments at a time (default 1)")
    parser.add_argument("--list", action="store_true", help="print the experiments with their time, and run none")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine
    from fcn.runtime.errors import UserError

    if arguments.jobs < 1:
        raise UserError(f"--jobs is {arguments.jobs}; write 1 or more")
    machine.prepare()
    from fcn.paper import run

    if arguments.list:
        run.show(arguments.scale, arguments.only, arguments.seeds)
    else:
        run.run(arguments.scale, arguments.only, arguments.seeds, arguments.jobs)
