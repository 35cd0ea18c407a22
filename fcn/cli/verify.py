"""Train the first steps of the finished rungs again and compare the weights' digests with those kept.

Nothing is written. A rung keeps the digests of its weights after 1, 10, 100, … steps in its model file.
"""

import argparse
from pathlib import Path

EXAMPLE = "fcn verify --stride 8 --steps 100"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stride", type=int, choices=(32, 16, 8), help="of the one net to verify; else all three")
    parser.add_argument("--steps", type=int, default=10, help="train at most so many again (default 10)")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    machine.prepare()
    from fcn import params
    from fcn.experiments import history
    from fcn.training.verification import verify

    experiment, folder = params.load(), Path("data/weights")
    for stride in (arguments.stride,) if arguments.stride else params.STRIDES:
        if not experiment.rung(stride).iterations:
            print(f"FCN-{stride}s: not trained")
            continue
        for line in verify(experiment, stride, arguments.steps, folder, history.packed(experiment)):
            print(line, flush=True)
