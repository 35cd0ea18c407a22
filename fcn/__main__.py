"""The command `fcn`: what a person does beside `dvc repro`."""

import argparse
from pathlib import Path

from fcn import machine
from fcn.errors import UserError, one_line


def main() -> None:
    """Parses the command line and does what it says."""
    parser = argparse.ArgumentParser(prog="fcn", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    recipe = commands.add_parser(
        "recipe",
        help="list recipes, put one into params.yaml, record its results",
        epilog="example: fcn recipe camvid && dvc repro",
    )
    recipe.add_argument("name", nargs="?", help="which one; without it, the list")
    recipe.add_argument("--force", action="store_true", help="lose uncommitted edits of params.yaml")
    recipe.add_argument("--record", action="store_true", help="run it all and write recipes/NAME.results.json")
    recipe.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with --record, also run the recipe with this change; may be repeated",
    )
    commands.add_parser("check", help="say whether params.yaml is a valid experiment; `make repro` asks this first")
    commands.add_parser("plan", help="say what params.yaml would fetch and train, and about how long that takes")
    commands.add_parser(
        "bound", help="the best scores possible at strides of 128 to 4 pixels, from the val masks alone"
    )
    commands.add_parser("readme", help="fill README's tables from the recorded results")
    arguments = parser.parse_args()
    with one_line():
        {"recipe": _recipe, "check": _check, "plan": _plan, "bound": _bound, "readme": _readme}[arguments.command](
            arguments
        )


def _recipe(arguments: argparse.Namespace) -> None:
    from fcn import recipe

    if arguments.name is None:
        if arguments.record or arguments.force or arguments.variant:
            raise UserError("name the recipe: fcn recipe NAME")
        for name, header in recipe.names().items():
            print(f"{name:16} {header}")
    elif arguments.record:
        print(f"wrote {recipe.record(arguments.name, arguments.variant)}")
    elif arguments.variant:
        raise UserError("--variant goes with --record; for one experiment use `dvc exp run -S KEY=VALUE`")
    else:
        recipe.put(arguments.name, arguments.force)
        print(f"params.yaml is now recipes/{arguments.name}.yaml; `dvc repro` runs it")


def _check(arguments: argparse.Namespace) -> None:
    from fcn import params, sources

    experiment = params.load()
    sources.get(experiment.data.dataset).archives(experiment.data)
    print("\n".join(["params.yaml is a valid experiment", *experiment.warnings()]))


def _plan(arguments: argparse.Namespace) -> None:
    machine.prepare()
    from fcn import params, plan

    for line in plan.describe(params.load()):
        print(line)


def _bound(arguments: argparse.Namespace) -> None:
    from fcn import params
    from fcn.bound import bounds
    from fcn.data import Split
    from fcn.titles import SCORES

    dataset = params.load().data.dataset
    print(f"{'factor':>8}" + "".join(f"{title:>16}" for title in SCORES.values()))
    for factor, row in bounds(Split(Path("data/resized") / dataset, "val")).items():
        print(f"{factor:8}" + "".join(f"{100 * value:16.1f}" for value in row.asdict().values()))


def _readme(arguments: argparse.Namespace) -> None:
    from fcn import recipe

    recipe.readme()


COMMANDS = {"recipe": _recipe, "check": _check, "plan": _plan, "bound": _bound, "readme": _readme}

if __name__ == "__main__":
    main()
