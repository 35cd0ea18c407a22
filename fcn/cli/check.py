"""Validate params.yaml, and restore dvc.lock if it is truncated. `make repro` runs it first.

With --lock, check instead that dvc.lock is of the current params, code and dvc.yaml, which needs no data: CI does.
"""

import argparse

EXAMPLE = "fcn check"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lock", action="store_true", help="fail if `dvc repro` would run a stage, and name it")


def run(arguments: argparse.Namespace) -> None:
    from fcn import params
    from fcn.experiments import precheck
    from fcn.pipeline import dvc_lock

    if arguments.lock:
        from fcn.experiments import lock_check

        lock_check.check()
        print("dvc.lock is up to date")
        return
    if message := dvc_lock.repair():
        print(message)
    experiment = params.load()
    warnings = precheck.check(experiment)
    print("\n".join(["params.yaml is a valid experiment", *experiment.warnings(), *warnings]))
