"""Processes that share a stage's work."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
from conftest import ROOT

PROGRAM = """
import os, sys
from fcn.runtime import workers
if __name__ == "__main__":
    with workers.pool() as pool:
        print(*set(pool.map(os.getpgid, [0] * 8)), flush=True)
        sys.stdin.read()
"""


def members(group: int) -> list[psutil.Process]:
    """The living processes of a group."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_no_worker_outlives_a_killed_stage() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as stage:
        assert stage.stdout is not None
        assert int(stage.stdout.readline()) == stage.pid
        assert len(members(stage.pid)) > 2  # itself, the fork server, its workers
        stage.send_signal(signal.SIGKILL)
        stage.wait()
    deadline = time.monotonic() + 60
    while left := members(stage.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
