"""One side of a benchmark: a process that runs one step per request and reports its peak memory."""

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

OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # set by machine.prepare for fcn; torchfcn runs without them


@contextmanager
def process(*words: str) -> Iterator[Callable[[], float]]:
    """Starts a benchmark process; each call runs one step and returns the peak memory of the process in GB.

    words   module of this folder, and its arguments
    """
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
    """Runs one step for each line on stdin and prints the peak memory in GB."""
    for _ in sys.stdin:
        work()
        print(peak_gigabytes(), flush=True)


def image(case: str) -> tuple[SampledImage, int]:
    """The image that both sides process, and the number of classes."""
    height, width, classes = map(int, case.split("x"))
    return oracle.drawn(height, width, classes, 0.05, seed=0), classes


def peak_gigabytes() -> float:
    """Peak memory of this process; of the GPU, if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    # getrusage would include the process that started this one.
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024 / 1e9
