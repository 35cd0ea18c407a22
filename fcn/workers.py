"""Processes that share a stage's work, and end with it."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread

from fcn import machine


def pool() -> ProcessPoolExecutor:
    """A process for each core; none outlives this one, however this one ends."""
    return ProcessPoolExecutor(machine.cores(), get_context("forkserver"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Leaves Ctrl-C to the process that began this one.

    A worker waits for work on a pipe whose other end it holds too: it would never learn of a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
