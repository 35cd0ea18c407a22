"""Processes that share a stage's work, and end with it."""

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread

from fcn.runtime import machine
from fcn.runtime.errors import UserError


@contextmanager
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process for each core; none outlives this one, however this one ends.

    raises   UserError if one of them is killed
    """
    # Forked where that is safe: what is imported here need not be imported again in each of them.
    method = "fork" if sys.platform == "linux" else "spawn"
    executor = ProcessPoolExecutor(machine.cores(), get_context(method), initializer=_end_with_parent)
    try:
        yield executor
    except BrokenProcessPool:
        raise UserError("a worker was killed, as a rule because memory ran out; free some and run it again") from None
    finally:
        executor.shutdown(cancel_futures=True)


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
