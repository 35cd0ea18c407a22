"""`fcn check --lock`: whether dvc.lock fits dvc.yaml, the params and the code, without the data."""

import re
import subprocess
import sys

from fcn.runtime.errors import UserError

COMMAND = ("repro", "--allow-missing", "--dry")


def outdated() -> list[str]:
    """The stages that `dvc repro` would run, in their order; empty if dvc.lock is up to date.

    DVC skips a stage whose data are missing if all else is as dvc.lock records it. A changed stage that needs missing
    data ends the search: DVC then fails, and the stages after it are not listed. With the data it would print "Running
    stage" and succeed, so that its exit status alone says nothing.

    raises   UserError, with DVC's reason, if DVC fails in another way
    source   https://github.com/treeverse/dvc/issues/9861
    """
    done = subprocess.run([sys.executable, "-m", "dvc", *COMMAND], capture_output=True, text=True, check=False)
    found = re.findall(r"Running stage '([^']+)'|failed to reproduce '([^']+)'", done.stdout + done.stderr)
    if done.returncode and not any(failed for _, failed in found):
        lines = done.stderr.removeprefix("ERROR: ").splitlines()  # indented ones are an excerpt of the file
        reason = " ".join(line for line in lines if line and not line.startswith(" "))
        raise UserError(f"`dvc {' '.join(COMMAND)}` failed ({reason})")
    return list(dict.fromkeys(would_run or failed for would_run, failed in found))


def check() -> None:
    """raises UserError if a stage would run"""
    if stages := outdated():
        raise UserError(
            f"dvc.lock is not up to date: `dvc repro` would run {', '.join(stages)}; run it and commit dvc.lock and "
            "metrics/"
        )
