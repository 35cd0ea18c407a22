"""Update the result tables in README.md from the recorded results."""

import argparse

EXAMPLE = "fcn readme"


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(arguments: argparse.Namespace) -> None:
    from fcn.experiments import recipe

    recipe.readme()
