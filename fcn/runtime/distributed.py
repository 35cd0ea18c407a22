"""Distributed training and evaluation with torchrun and torch.distributed.

The experiment is the same for any number of processes: each takes its share of every batch, losses are scaled by
the valid pixels of the whole batch, and gradients are summed. One process, the leader (rank 0), writes files and
logs to MLflow; only predicted masks are written by all processes.
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
from fcn.runtime.errors import UserError, first_line

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """This process's rank and the number of processes; the default is a single process."""

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        return self.rank == 0

    def local_range(self, count: int) -> range:
        """Indices of the images, out of `count`, that this process handles."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def maximum(self, value: int) -> int:
        """Maximum over all processes; for a bool, whether it is true in any process."""
        if self.size == 1:
            return value
        values = torch.tensor(int(value))
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def broadcast(self, value: T) -> T:
        """Returns the leader's value in all processes."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values)
        return values[0]  # type: ignore[no-any-return]

    def check_agreement(self, fingerprint: str) -> None:
        """Compares the fingerprints of all processes.

        raises   UserError if data, code, weights or threads of a process differ from the leader's
        """
        if self.maximum(self.broadcast(fingerprint) != fingerprint):
            raise UserError("the group's machines differ in data, code, parent weights or threads; make them identical")

    def check_leader(self) -> None:
        """raises   UserError in all processes if DVC started another process than the leader, which writes the files"""
        started_by_dvc = "DVC_ROOT" in os.environ
        if self.maximum(started_by_dvc) and not self.broadcast(started_by_dvc):
            raise UserError(
                "rank 0 of the group is not the process that DVC started; add --node-rank 0 and --master-addr to "
                "FCN_TORCHRUN there, and --node-rank 1, 2, … on the other machines, so that it leads"
            )

    def wrap(self, net: nn.Module) -> nn.Module:
        """Wraps the net so that gradients are averaged over all processes; its weights become the leader's."""
        if self.size == 1:
            return net
        # By default torch rebuilds its gradient buckets after the first step, which changes the order of summation, so
        # a resumed run would give other bits. With find_unused_parameters it does not rebuild them.
        warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
        return DistributedDataParallel(net, forward_sync_buffers=False, find_unused_parameters=True)


SINGLE = Group()


@contextmanager
def group() -> Iterator[Group]:
    """Joins the process group if torchrun started this process; otherwise yields SINGLE."""
    if _announced_size() == 1:
        yield SINGLE
        return
    device = machine.device()
    if device.type == "cuda":
        if device.index is not None or int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
            raise UserError("each process needs its own GPU; start fewer, and set FCN_DEVICE to cuda without an index")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, size = next(rendezvous("env://"))
    # torchrun keeps one store across restarts, in which gloo would find the addresses of dead processes (torch 2.14.1).
    fresh = PrefixStore(f"restart-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    # Long timeout: the leader may wait for another experiment that computes the same. torchrun notices ended processes.
    dist.init_process_group(backend, timeout=timedelta(days=7), store=fresh, rank=rank, world_size=size)
    try:
        yield Group(rank, size)
    finally:
        dist.destroy_process_group()


def launch(module: str, images: int, *, machines: bool = True) -> None:
    """Runs this stage with torchrun, one process per GPU, and exits with its status.

    Returns immediately if torchrun already started this process, or if one process is enough. FCN_PROCESSES
    overrides the number of processes; FCN_TORCHRUN sets torchrun's options, for several machines or restarts.

    module     the stage, as for `python -m`
    images     images that can be processed at the same time, which limits the number of processes
    machines   whether the stage supports several machines
    """
    if _announced_size() > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    options = shlex.split(os.environ.get("FCN_TORCHRUN", "")) if machines else []
    if not options:
        count = min(_process_count(), images)
        if count <= 1:
            return
        options = ["--standalone", f"--nproc-per-node={count}"]
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    # Silences the warning that the error file is not copied to another place; the error is read below.
    logging.getLogger("torch.distributed.elastic.multiprocessing.errors.error_handler").setLevel(logging.CRITICAL)
    arguments = run.parse_args([*options, module])  # type: ignore[no-untyped-call]
    local_processes = run.determine_local_world_size(arguments.nproc_per_node)
    os.environ["OMP_NUM_THREADS"] = str(max(1, machine.cores() // local_processes))
    try:
        run.main([*options, "-m", module, *sys.argv[1:]])
    except ChildFailedError as error:
        for failure in error.failures.values():  # if one process fails, others fail with connection errors
            if failure.message.startswith("error: "):  # written by fcn.runtime.errors
                sys.exit(failure.message)
        _, failure = error.get_first_failure()
        sys.exit(f"error: process {failure.local_rank} of the group exited with status {failure.exitcode}")
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except (RendezvousError, dist.DistError) as error:
        raise UserError(f"the machines of FCN_TORCHRUN did not all join in time ({first_line(error)})") from None
    sys.exit()


def _announced_size() -> int:
    """The number of processes in torchrun's group; 1 if there is none.

    raises   UserError if another launcher, such as srun, set the variables that torchrun sets
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1" and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise UserError(
            f"WORLD_SIZE is {size}, but torchrun did not start this process; unset it, and set FCN_TORCHRUN to "
            "train on several machines"
        )
    return int(size)


def _process_count() -> int:
    value = os.environ.get("FCN_PROCESSES")
    if value is None:
        device = machine.device()
        return torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
    if not value.isdecimal() or not int(value):
        raise UserError(f"FCN_PROCESSES is {value!r}; write a whole number such as 2")
    return int(value)
