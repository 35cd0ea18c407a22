"""Settings of the machine, which are not part of the experiment: folders, threads, memory, device.

Import this module and call `prepare` before importing torch: OpenMP reads its environment variables only once.
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

PACKAGES = ("torch", "torchvision", "dvc", "mlflow")  # their versions can change results or file formats

# From glibc's malloc.h. By default malloc returns large buffers to the kernel at every step, and the page faults
# cost more time than the arithmetic; `prepare` turns that off.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4

# What `arithmetic: portable` fixes; its effect is measured by `make portable`. MKL chooses by vendor as well as by
# instruction set: its COMPATIBLE branch, SSE2 with a fixed order of summation, is the only one that Intel documents as
# equal on Intel's CPUs and others. NumPy ignores names that its version does not know.
PORTABLE_THREADS = 4
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_DYNAMIC": "FALSE",
    "OMP_DYNAMIC": "FALSE",
    "MKL_NUM_THREADS": str(PORTABLE_THREADS),
    "OMP_NUM_THREADS": str(PORTABLE_THREADS),
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512_SKX AVX512_ICL AVX512_SPR",
    "FCN_DEVICE": "cpu",
}


def root() -> Path:
    """The main checkout. DVC sets DVC_ROOT, also for experiments that run in a copy (`--temp`, `--queue`)."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def location_digest() -> str:
    """sha256 of host name and checkout path, which tells this checkout's runs from those of other checkouts."""
    return hashlib.sha256(f"{platform.node()}:{root()}".encode()).hexdigest()


def prepare(arithmetic: str = "native") -> None:
    """Configures threads and memory allocation of this process.

    arithmetic   native: affects speed, never results. portable: fixes what makes the same code round differently on
                 another x86-64 CPU, and computes on the CPU also where there is a GPU
    raises       UserError if arithmetic is portable and this machine cannot compute so
    """
    if arithmetic == "portable":
        if {"numpy", "torch"} & sys.modules.keys():
            raise RuntimeError("NumPy or PyTorch is imported already, and has read its environment")
        _check_portable()
        os.environ.update(PORTABLE)
    # OpenMP threads that spin while another process uses their core make a step many times slower; threads that
    # sleep immediately wake up late. Spinning for a few microseconds avoids both.
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


def _check_portable() -> None:
    if os.environ.get("FCN_DEVICE", "cpu") != "cpu":
        raise UserError("arithmetic: portable is for the CPU; unset FCN_DEVICE, or set arithmetic: native")
    if platform.system() != "Linux" or platform.machine() != "x86_64" or "avx2" not in _cpuinfo("flags").split():
        raise UserError("arithmetic: portable needs Linux on an x86-64 CPU with AVX2; set arithmetic: native")


def _cpuinfo(key: str) -> str:
    """The first processor's value in /proc/cpuinfo; empty if there is none."""
    path = Path("/proc/cpuinfo")
    found = re.search(rf"^{key}\s*: (.+)$", path.read_text(), re.MULTILINE) if path.is_file() else None
    return found[1] if found else ""


def dvc() -> psutil.Process | None:
    """The DVC process that runs this stage, if there is one."""
    if "DVC_ROOT" not in os.environ:
        return None
    return next((p for p in psutil.Process().parents() if "dvc" in _command(p)), None)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:3])
    except psutil.Error:  # ended, or owned by another user
        return ""


def is_running(process: psutil.Process) -> bool:
    """Whether a process is still running, and its id has not been reused."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def cores() -> int:
    """Number of cores that this process may use, limited by CPU affinity and cgroup quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = Path("/sys/fs/cgroup/cpu.max")
    if limit.is_file():
        quota, period = limit.read_text().split()
        if quota != "max":
            allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def device() -> "torch.device":
    """The device to compute on: `FCN_DEVICE` if set, else the first GPU, else the CPU."""
    import torch

    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # filling with NaN takes 4 % of a step
    # Same as torch.use_deterministic_algorithms(True), which spends a second importing a compiler that is not needed.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32 on every device; use bf16 for speed
    name = os.environ.get("FCN_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).item()  # .item() fails on the meta device, which has no values
    except (RuntimeError, AssertionError, ImportError) as error:
        raise UserError(f"FCN_DEVICE is {name!r}, which this machine cannot use ({first_line(error)})") from None
    return torch.device(name)


def facts() -> dict[str, str | int]:
    """CPU, device, system and Python version, on which speed and the last digits depend."""
    return {
        "cpu": _cpuinfo("model name") or platform.processor(),
        "cores": cores(),
        "device": device().type,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Installed version of each package in PACKAGES."""
    return {package: version(package) for package in PACKAGES}
