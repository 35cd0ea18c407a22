"""List recipes, copy one to params.yaml, or record its results."""

import argparse

from fcn.runtime.errors import UserError

EXAMPLE = "fcn recipe camvid && dvc repro"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="recipe to install; without it, list them")
    parser.add_argument("--force", action="store_true", help="overwrite uncommitted edits of params.yaml")
    parser.add_argument("--record", action="store_true", help="run all stages and write recipes/NAME.results.json")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with --record: also run the recipe with this change; may be repeated",
    )


def run(arguments: argparse.Namespace) -> None:
    from fcn.experiments import recipe

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
        recipe.install(arguments.name, arguments.force)
        print(f"params.yaml is now recipes/{arguments.name}.yaml; `dvc repro` runs it")
