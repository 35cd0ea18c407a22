"""A pool of worker processes that ends with its stage."""

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
    """A pool with one process per core. Workers end with this process, even if it is killed.

    raises   UserError if a worker is killed
    """
    # Fork on Linux, so that workers need not import everything again.
    method = "fork" if sys.platform == "linux" else "spawn"
    executor = ProcessPoolExecutor(machine.cores(), get_context(method), initializer=_end_with_parent)
    try:
        yield executor
    except BrokenProcessPool:
        raise UserError("a worker was killed, usually because memory ran out; free some and run it again") from None
    finally:
        executor.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Ignores Ctrl-C, which the parent handles, and exits when the parent ends.

    A worker waits for work on a pipe whose write end it has inherited too, so the pipe does not close when the
    parent is killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
