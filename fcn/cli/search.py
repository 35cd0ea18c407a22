"""Search values of params.yaml with which a net has the best mean IU on the evaluation split, by Optuna.

Each trial is a DVC experiment. Finished trials are not run again: to go on after an interruption, or to add trials, run
the command again. The same seed and number of jobs suggest the same trials.
"""

import argparse

from fcn.ladder import NETS

EXAMPLE = "fcn search 20 lr=1e-4..1e-2:log weight_decay=0..1e-3 'batch_size=4|8|16'"
INSTALL = "uv pip install 'optuna>=5,<6'"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("count", type=int, metavar="TRIALS", help="number of trials, with those of earlier calls")
    parser.add_argument(
        "space",
        nargs="+",
        metavar="KEY=RANGE",
        help="LOW..HIGH, LOW..HIGH:log (uniform in the logarithm), or the values A|B|C",
    )
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        dest="changes",
        metavar="KEY=VALUE",
        help="change a value of params.yaml in all trials, as for `dvc exp run`; may be repeated",
    )
    parser.add_argument("--net", choices=tuple(NETS), default="fcn8s", help="whose mean IU counts (default fcn8s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the suggestions (default 1)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of trials at a time (default 1)")


def run(arguments: argparse.Namespace) -> None:
    from importlib.util import find_spec

    from fcn.runtime import machine
    from fcn.runtime.errors import UserError

    for name, value in (("TRIALS", arguments.count), ("--jobs", arguments.jobs)):
        if value < 1:
            raise UserError(f"{name} is {value}; write 1 or more")
    if find_spec("optuna") is None:
        raise UserError(f"`fcn search` needs optuna, which is not installed; `{INSTALL}`")
    machine.prepare()
    from fcn.search import run

    run.run(arguments.count, arguments.space, arguments.changes, arguments.net, arguments.seed, arguments.jobs)
