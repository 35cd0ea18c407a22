"""Say whether params.yaml is a valid experiment; put back a dvc.lock that was cut off. `make repro` begins with it."""

import argparse

EXAMPLE = "fcn check"


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(arguments: argparse.Namespace) -> None:
    from fcn import params
    from fcn.experiments import precheck
    from fcn.pipeline import dvc_lock

    if said := dvc_lock.repair():
        print(said)
    experiment = params.load()
    warnings = precheck.check(experiment)
    print("\n".join(["params.yaml is a valid experiment", *experiment.warnings(), *warnings]))
