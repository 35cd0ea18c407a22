"""Repeat the first training steps of the finished nets and compare digests of the weights with the recorded ones.

It writes no files. Each model file contains digests of its weights after 1, 10, 100, … training steps. On a machine
that cannot reproduce the same bits, --statistical compares scores with those of recorded seeds instead, without
training.
"""

import argparse
from pathlib import Path

from fcn.ladder import STRIDES

EXAMPLE = "fcn verify --stride 8 --steps 100"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stride", type=int, choices=STRIDES, help="stride of the net to verify (default: all three)")
    parser.add_argument("--steps", type=int, default=10, help="maximum number of steps to repeat (default 10)")
    parser.add_argument(
        "--statistical",
        nargs="?",
        const="",
        metavar="NAME",
        help="test whether the workspace's scores are within the range expected from a group of `fcn seeds`, a recipe, "
        "or experiments separated by commas (default: the recipe with these params)",
    )


def run(arguments: argparse.Namespace) -> None:
    from fcn import params
    from fcn.runtime import machine

    experiment, folder = params.load(), Path("data/weights")
    machine.prepare(experiment.arithmetic)
    if arguments.statistical is not None:
        from fcn.comparison import band

        for line in band.verify(arguments.statistical or None):
            print(line)
        return
    from fcn.experiments import history
    from fcn.rungs.verification import verify

    for stride in (arguments.stride,) if arguments.stride else STRIDES:
        if not experiment.rung(stride).iterations:
            print(f"FCN-{stride}s: not trained")
            continue
        for line in verify(experiment, stride, arguments.steps, folder, history.packed(experiment)):
            print(line, flush=True)
