"""A side of a comparison: a process that works once whenever it is asked, and says how much memory it has needed."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fcn.data.sampling import SampledImage
from tests.parity import oracle

OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # set by machine.prepare, for us; a peer's users have not


@contextmanager
def process(*words: str) -> Iterator[Callable[[], float]]:
    """A module of this folder and its arguments; it works once at every call, which gives its most GB so far."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    command = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as side:
        there, back = side.stdin, side.stdout
        assert there
        assert back

        def once() -> float:
            print(file=there, flush=True)
            return float(back.readline())

        yield once
        there.close()


def serve(work: Callable[[], object]) -> None:
    """Works once for every line that comes in."""
    for _ in sys.stdin:
        work()
        print(peak_gigabytes(), flush=True)


def image(case: str) -> tuple[SampledImage, int]:
    """What both sides are fed, and the number of classes."""
    height, width, classes = map(int, case.split("x"))
    return oracle.drawn(height, width, classes, 0.05, seed=0), classes


def peak_gigabytes() -> float:
    """The most memory that this process had, on the GPU if it computes there."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    # getrusage would count the process that this one was begun from.
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024 / 1e9
