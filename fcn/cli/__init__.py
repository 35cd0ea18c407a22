"""What the command `fcn` can do: a module each, named as one types it.

Importing a command imports nothing heavy: its `run` does, so that `fcn --help` comes at once.
"""

import argparse
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from fcn.runtime.errors import UserError

ANYWHERE = ("import", "inspect", "predict")  # what works on files alone
CHECKOUT = ("dvc.yaml", "fcn", "stages")


class Command(Protocol):
    """What each module of this package offers; its docstring's first line is the help."""

    EXAMPLE: str

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares what may stand behind the command's name."""

    def run(self, arguments: argparse.Namespace) -> None:
        """Does it; a user's mistake is a UserError."""


def commands() -> Mapping[str, Command]:
    """Every command by name, `import_.py` being `import`, which Python keeps for itself."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    return {name.rstrip("_"): cast(Command, importlib.import_module(f"fcn.cli.{name}")) for name in names}


def require_checkout(command: str) -> None:
    """raises UserError if a command that needs the project's folder is typed elsewhere"""
    if command in ANYWHERE:
        return
    here = Path.cwd()
    found = next(
        (folder for folder in (here, *here.parents) if all((folder / name).exists() for name in CHECKOUT)), None
    )
    if found is None:
        raise UserError(f"{here} is in no checkout of this project, which `fcn {command}` needs; cd into one")
    if found != here:
        raise UserError(f"`fcn {command}` needs the checkout's own folder; cd {found}")
