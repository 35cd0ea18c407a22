"""Validate params.yaml, and restore dvc.lock if it is truncated. `make repro` runs it first."""

import argparse

EXAMPLE = "fcn check"


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(arguments: argparse.Namespace) -> None:
    from fcn import params
    from fcn.experiments import precheck
    from fcn.pipeline import dvc_lock

    if message := dvc_lock.repair():
        print(message)
    experiment = params.load()
    warnings = precheck.check(experiment)
    print("\n".join(["params.yaml is a valid experiment", *experiment.warnings(), *warnings]))
