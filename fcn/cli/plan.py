"""Show what params.yaml would download and train, and estimate how long that takes."""

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
