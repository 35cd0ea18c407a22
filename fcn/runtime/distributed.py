"""Several processes that train one net, or score it: torchrun starts them, torch.distributed joins them.

The experiment stays the same on any number of them: each takes its share of every batch, losses are
scaled by what the whole batch holds, and gradients are summed. One of them, the leader, writes files
and talks to MLflow; predicted masks alone are written by all.
"""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from fcn.runtime import machine
from fcn.runtime.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """This process among those that train together; alone if there is but one."""

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        return self.rank == 0

    def local_range(self, count: int) -> range:
        """Which of `count` images are this process's."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def maximum(self, value: int) -> int:
        """The largest value in any process; of a yes or no, whether any says yes."""
        if self.size == 1:
            return value
        values = torch.tensor(int(value))
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def broadcast(self, value: T) -> T:
        """The leader's value, in all processes."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values)
        return values[0]  # type: ignore[no-any-return]

    def check_agreement(self, fingerprint: str) -> None:
        """Refuses to train together what is not the same.

        raises   UserError if another process has other data, code, weights or threads than the leader
        """
        if self.maximum(self.broadcast(fingerprint) != fingerprint):
            raise UserError("the group's machines differ in data, code, parent weights or threads; make them alike")

    def wrap(self, net: nn.Module) -> nn.Module:
        """The net with gradients that are the mean over all processes; its weights become the leader's."""
        if self.size == 1:
            return net
        # After its first step torch would put gradients into other buckets, in which they are summed in another order:
        # a run that goes on after a kill would end with other bits. Where it looks for unused weights it does not.
        warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
        return DistributedDataParallel(net, forward_sync_buffers=False, find_unused_parameters=True)


SINGLE = Group()


@contextmanager
def group() -> Iterator[Group]:
    """This process's place among those that torchrun started, if it did."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield SINGLE
        return
    device = machine.device()
    if device.type == "cuda":
        if device.index is not None or int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
            raise UserError("each process needs a GPU of its own; start fewer, and name none in FCN_DEVICE")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, size = next(rendezvous("env://"))
    # torchrun keeps one store over its restarts, and gloo would find the addresses of the dead in it (torch 2.14.1).
    fresh = PrefixStore(f"restart-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    # Long: the leader may have to wait until another experiment has computed the same. A death ends the group anyway.
    dist.init_process_group(backend, timeout=timedelta(days=7), store=fresh, rank=rank, world_size=size)
    try:
        yield Group(rank, size)
    finally:
        dist.destroy_process_group()


def launch(module: str, images: int, *, machines: bool = True) -> None:
    """Runs this stage as several processes and ends with them, if the machine has several devices.

    module     the stage, as `python -m` takes it
    images     that can be worked on at once: more processes would have nothing to do
    machines   whether several machines can do it, or only this one

    FCN_PROCESSES says how many processes instead; FCN_TORCHRUN gives torchrun's own options, for
    several machines or for restarts. Returns at once in a process that torchrun has started, and where
    one process is enough.
    """
    if "WORLD_SIZE" in os.environ:
        return
    options = shlex.split(os.environ.get("FCN_TORCHRUN", "")) if machines else []
    if not options:
        count = min(_wanted(), images)
        if count <= 1:
            return
        options = ["--standalone", f"--nproc-per-node={count}"]
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # It complains that nobody wants to copy the file in which a process leaves its line; that line is read below.
    logging.getLogger("torch.distributed.elastic.multiprocessing.errors.error_handler").setLevel(logging.CRITICAL)
    given = run.parse_args([*options, module])  # type: ignore[no-untyped-call]
    here = run.determine_local_world_size(given.nproc_per_node)
    os.environ["OMP_NUM_THREADS"] = str(max(1, machine.cores() // here))
    try:
        run.main([*options, "-m", module, *sys.argv[1:]])
    except ChildFailedError as error:
        for failure in error.failures.values():  # where one ends with a line, others lose their connection
            if failure.message.startswith("error: "):  # its own: fcn.runtime.errors
                sys.exit(failure.message)
        _, failure = error.get_first_failure()
        sys.exit(f"error: process {failure.local_rank} of the group ended with {failure.exitcode}")
    except SignalException as error:
        sys.exit(128 + error.sigval)
    sys.exit()


def _wanted() -> int:
    given = os.environ.get("FCN_PROCESSES")
    if given is None:
        device = machine.device()
        return torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
    if not given.isdecimal() or not int(given):
        raise UserError(f"FCN_PROCESSES is {given!r}; write a whole number such as 2")
    return int(given)
