"""What a stage logs to MLflow, and what it must not log."""

import subprocess
from pathlib import Path

import pytest
from conftest import Checkout

STAGE = """
from fcn import params
from fcn.tracking import stage_run
with stage_run.stage("train", params.load(), {"n": 1}) as run:
    run.curve([{"iteration": 1, "loss": 0.5}])
"""


@pytest.mark.slow
def test_a_store_without_room_costs_one_line_and_no_traceback(checkout: Checkout) -> None:
    """SQLite may not grow its file; MLflow's own log would hold a traceback for each try."""
    checkout.run("python", "-c", STAGE)
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n{STAGE}"
    printed = checkout.run("python", "-c", limited, DVC_EXP_NAME="other")
    (line,) = printed.splitlines()
    assert line.startswith("warning: MLflow tracking is off for this stage (sqlite://")
    assert line.endswith(": disk I/O error)") or line.endswith(": database or disk is full)")


@pytest.mark.slow
def test_a_token_in_the_remotes_address_never_reaches_the_store(checkout: Checkout) -> None:
    token = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
    checkout.run("git", "remote", "add", "origin", f"https://someone:{token}@example.org/fcn.git")
    checkout.run("python", "-c", STAGE, GIT_URL=f"https://{token}@example.org")
    for path in [checkout.folder / "mlflow.db", *(checkout.folder / "mlartifacts").rglob("*")]:
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout.folder, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert commit.encode() in Path(checkout.folder / "mlflow.db").read_bytes()
