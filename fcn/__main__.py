"""The command `fcn`: what a person does beside `dvc repro`."""

import argparse

from fcn.cli import commands, require_checkout
from fcn.runtime.errors import one_line


def main() -> None:
    """Parses the command line and does what it says."""
    parser = argparse.ArgumentParser(prog="fcn", description=__doc__, epilog="`fcn COMMAND --help` shows an example")
    chosen = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    known = commands()
    for name, command in known.items():
        text = (command.__doc__ or "").strip()
        command.arguments(
            chosen.add_parser(
                name,
                help=text.splitlines()[0].rstrip("."),
                description=text,
                epilog=f"example: {command.EXAMPLE}",
            )
        )
    with one_line():
        arguments = parser.parse_args()
        require_checkout(arguments.command)
        known[arguments.command].run(arguments)


if __name__ == "__main__":
    main()
