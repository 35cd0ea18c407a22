"""Say whether params.yaml is a valid experiment; `make repro` asks this first."""

import argparse

EXAMPLE = "fcn check"


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(arguments: argparse.Namespace) -> None:
    from fcn import params, sources

    experiment = params.load()
    sources.check(experiment.data.dataset, experiment.data)
    print("\n".join(["params.yaml is a valid experiment", *experiment.warnings()]))
