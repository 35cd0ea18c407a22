"""Runs git and DVC."""

import subprocess
import sys

from fcn.runtime.errors import UserError


def git(*words: str, stdin: bytes = b"") -> bytes | None:
    """The output of a git command; None if it fails, for example outside a checkout."""
    done = subprocess.run(["git", *words], input=stdin, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def dvc(*words: str, capture: bool = True) -> str:
    """Runs this environment's DVC.

    capture  whether to return the output; otherwise it goes to the terminal
    raises   UserError, with the reason that DVC gives, if it fails
    """
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(command, capture_output=capture, text=True, check=False)
    if done.returncode:
        reason = f" ({_reason(done.stderr.strip() or done.stdout.strip())})" if capture else ""  # else already printed
        raise UserError(f"`dvc {' '.join(words)}` failed{reason}")
    return done.stdout or ""


def _reason(output: str) -> str:
    """The last error that DVC printed, or else its last line."""
    lines = [line.strip() for line in output.splitlines()] or ["no reason given"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines)[-1]
