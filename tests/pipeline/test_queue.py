"""Queued DVC experiments whose worker was killed: `fcn doctor` lists them, and its advice resumes them."""

import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
from conftest import Checkout

pytestmark = pytest.mark.slow
WAIT = 300  # seconds; on an idle machine it takes only a few


def wait_for(checkout: Checkout, pattern: str) -> Path:
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        if found := sorted(checkout.folder.glob(pattern)):
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"no {pattern} after {WAIT} s")


def begin(checkout: Checkout) -> psutil.Process:
    """Queues an experiment that saves its state after every step; yields its worker once a state is saved."""
    checkout.run("sed", "-i", "s/^SAVE_EVERY = .*/SAVE_EVERY = 0.0/", "fcn/rungs/checkpoint.py")
    checkout.commit()
    change = ("--set-param", "train.iterations=40")
    checkout.run("dvc", "exp", "run", "--queue", "--name", "mine", *change, "train")
    (checkout.folder / ".fcn").mkdir(exist_ok=True)
    checkout.run("sh", "-c", "dvc queue start > .fcn/queue.txt 2>&1")
    wait_for(checkout, ".fcn/states/*/1*-*.safetensors")
    return psutil.Process(int((checkout.folder / ".dvc/tmp/exps/celery/dvc-exp-worker-1.pid").read_text()))


def doctor(checkout: Checkout) -> list[str]:
    printed = checkout.run("fcn", "doctor", code=None)
    return [line for line in printed.splitlines() if "queued experiment" in line]


def again(checkout: Checkout, line: str) -> str:
    """Runs the commands that `fcn doctor` printed, queues the experiment again, and returns its stages' output."""
    command = re.search(r"`(dvc queue .*)`, then queue it again", line)
    assert command is not None
    checkout.run("sh", "-c", command[1])
    assert doctor(checkout) == []
    checkout.run("dvc", "exp", "run", "--queue", "--name", "mine", "--set-param", "train.iterations=40", "train")
    checkout.queue(1)
    return checkout.run("dvc", "queue", "logs", "mine")


def test_an_experiment_killed_with_its_worker_goes_on_where_it_was(ready: Checkout) -> None:
    worker = begin(ready)
    assert doctor(ready) == []
    assert os.getpgid(worker.pid) != os.getpgrp()
    group = [worker, *worker.children(recursive=True)]
    os.killpg(os.getpgid(worker.pid), signal.SIGKILL)
    psutil.wait_procs(group, WAIT)
    (line,) = doctor(ready)
    assert line.startswith("warn  the worker of queued experiment mine was killed; `dvc queue kill mine && ")
    assert "resuming from step" in again(ready, line)


def test_an_experiment_that_outlives_its_worker_is_restored_once_it_has_ended(ready: Checkout) -> None:
    worker = begin(ready)
    (process,) = [child for child in worker.children() if "exec-run" in child.cmdline()]
    worker.kill()
    worker.wait()
    (line,) = doctor(ready)
    assert f"was killed; when process {process.pid} has ended, `dvc queue kill mine" in line
    process.wait(WAIT)
    (line,) = doctor(ready)
    assert "was killed; `dvc queue kill mine && " in line
    assert ready.experiments() == []
    assert "Stage 'train' is cached - skipping run" in again(ready, line)
    assert len(ready.experiments()) == 1
