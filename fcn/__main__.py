"""The command line interface `fcn`: everything that is not a stage of `dvc repro`."""

import argparse

from fcn.cli import commands, require_checkout
from fcn.runtime.errors import one_line


def main() -> None:
    """Parses the command line and runs the command."""
    parser = argparse.ArgumentParser(prog="fcn", description=__doc__, epilog="`fcn COMMAND --help` shows an example")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    by_name = commands()
    for name, command in by_name.items():
        text = (command.__doc__ or "").strip()
        command.arguments(
            subparsers.add_parser(
                name,
                help=text.splitlines()[0].rstrip("."),
                description=text,
                epilog=f"example: {command.EXAMPLE}",
            )
        )
    with one_line():
        arguments = parser.parse_args()
        require_checkout(arguments.command)
        by_name[arguments.command].run(arguments)


if __name__ == "__main__":
    main()
