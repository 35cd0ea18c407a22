"""The commands of `fcn`: one module each, with the command's name.

Commands import heavy packages in `run`, not at module level, so that `fcn --help` is fast.
"""

import argparse
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from fcn.runtime.errors import UserError

ANYWHERE = ("export", "import", "inspect", "predict")  # commands that do not need a checkout
CHECKOUT = ("dvc.yaml", "fcn", "stages")


class Command(Protocol):
    """The interface of each module of this package. The first line of its docstring is the help text."""

    EXAMPLE: str

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command's arguments to its parser."""

    def run(self, arguments: argparse.Namespace) -> None:
        """Runs the command. Raises UserError for a user's mistake."""


def commands() -> Mapping[str, Command]:
    """Every command by name. `import_.py` is the command `import`, which is a keyword of Python."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    return {name.rstrip("_"): cast(Command, importlib.import_module(f"fcn.cli.{name}")) for name in names}


def require_checkout(command: str) -> None:
    """Raises UserError if a command that needs the checkout runs outside its top folder."""
    if command in ANYWHERE:
        return
    here = Path.cwd()
    checkout = next(
        (folder for folder in (here, *here.parents) if all((folder / name).exists() for name in CHECKOUT)), None
    )
    if checkout is None:
        raise UserError(f"{here} is not in a checkout of fcn, which `fcn {command}` needs; cd into one")
    if checkout != here:
        raise UserError(f"`fcn {command}` must run in the checkout's top folder; cd {checkout}")
