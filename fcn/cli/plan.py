"""Say what params.yaml would fetch and train, and about how long that takes."""

import argparse

EXAMPLE = "fcn recipe voc-heavy && fcn plan"


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    machine.prepare()
    from fcn import params
    from fcn.experiments import plan

    for line in plan.describe(params.load()):
        print(line)
