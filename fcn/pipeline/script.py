"""What every stage's script does around its work."""

import argparse
from collections.abc import Callable

from fcn import params
from fcn.params import Params
from fcn.pipeline import dvc_lock
from fcn.runtime import locks, machine
from fcn.runtime.errors import one_line

Main = Callable[[argparse.Namespace, Params], None]


def run(parser: argparse.ArgumentParser, main: Main, *, lock: str = "", computes: bool = False) -> None:
    """Runs a stage: parses its command line, loads params.yaml, and turns a user's error into one line.

    The machine is prepared before `main` is called; a `main` that needs torch imports it, since OpenMP reads its
    environment only once.

    lock       the argument that names an out; its lock is held while `main` runs. Empty if `main` locks it itself
    computes   whether the stage runs nets, so that its result depends on `arithmetic`
    """
    with one_line():
        arguments = parser.parse_args()
        experiment = params.load()
        machine.prepare(experiment.arithmetic if computes else "native")
        if not lock:
            main(arguments, experiment)
            return
        with locks.exclusive(getattr(arguments, lock)):
            dvc_lock.protect()
            main(arguments, experiment)
