"""What belongs to the machine and not to the experiment: folders, threads, memory, device.

Import this module, call `prepare`, and only then import torch: OpenMP reads its environment once.
"""

import ctypes
import hashlib
import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fcn.runtime.errors import UserError, first_line

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torchvision", "dvc", "mlflow")  # those whose version can change bits, or how files are kept

# glibc's malloc.h. Large buffers that go back to the kernel at every step cost more in page
# faults than the arithmetic done on them: keep them.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def root() -> Path:
    """The main checkout: DVC names it, also for experiments that run in a copy (`--temp`, `--queue`)."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def location_digest() -> str:
    """Digest of this machine's name and the checkout's path, so that no other checkout's run is taken for its own."""
    return hashlib.sha256(f"{platform.node()}:{root()}".encode()).hexdigest()


def prepare() -> None:
    """Makes a process ready to compute. Changes its speed, never a number."""
    # An OpenMP thread that spins while another process has its core makes a step many times slower;
    # one that sleeps at once wakes up late. Some microseconds of spinning cost neither.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # cuBLAS is deterministic only with a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, -1)
            libc.mallopt(M_TOP_PAD, 256 << 20)


def dvc() -> psutil.Process | None:
    """The DVC that runs this stage, if one does."""
    if "DVC_ROOT" not in os.environ:
        return None
    return next((p for p in psutil.Process().parents() if "dvc" in _command(p)), None)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:3])
    except psutil.Error:  # gone, or another user's
        return ""


def is_running(process: psutil.Process) -> bool:
    """Whether a process is still the one that it was, and at work."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def cores() -> int:
    """Cores that this process may use: its affinity, and what its control group allows."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = Path("/sys/fs/cgroup/cpu.max")
    if limit.is_file():
        quota, period = limit.read_text().split()
        if quota != "max":
            allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def device() -> "torch.device":
    """Where to compute: `FCN_DEVICE` if set, else the first GPU, else the CPU."""
    import torch

    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # with NaN: 4 % of a step
    # As torch.use_deterministic_algorithms(True), which takes a second to import a compiler that is not used here.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.allow_tf32 = False  # fp32 has the same meaning everywhere; who wants speed writes bf16
    name = os.environ.get("FCN_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).item()  # the device meta has shapes and no values
    except (RuntimeError, AssertionError, ImportError) as error:
        raise UserError(f"FCN_DEVICE is {name!r}, which this machine cannot use ({first_line(error)})") from None
    return torch.device(name)


def facts() -> dict[str, str | int]:
    """Processor, device and Python: what speed and last digits depend on."""
    found = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    model = re.search(r"model name\s*: (.+)", found)
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": cores(),
        "device": device().type,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """The installed version of each package that matters."""
    return {package: version(package) for package in PACKAGES}
