"""What the machine does while a stage runs: processor, memory, disk, network, and GPU if there is one."""

import threading
import time
from contextlib import suppress
from typing import Any

EVERY = 10.0  # seconds between two samples


class SystemMetrics:
    """Samples in a thread of its own that only collects: no store is asked, no random number drawn.

    samples   rows of `time` (ms) and values by MLflow's names, until `take` takes them away
    """

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        # MLflow's collectors without its thread, which writes to the store by itself and is waited for at the end.
        kinds: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor]
        self._monitors: list[Any] = []
        for kind in kinds:
            with suppress(Exception):  # no GPU, no driver, no nvidia-ml-py
                self._monitors.append(kind())
        self._samples: list[dict[str, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._collect, daemon=True, name="vitals")
        self._thread.start()

    def _collect(self) -> None:
        with suppress(Exception):  # a sensor that does not answer: what was sampled stays
            self._sample()  # of what was before the stage
            while True:
                over = self._over.wait(EVERY)
                self._samples.append(self._sample())
                if over:
                    return

    def _sample(self) -> dict[str, float]:
        values: dict[str, float] = {"time": int(time.time() * 1000)}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return values

    def drain(self) -> list[dict[str, float]]:
        """The samples since the last call."""
        taken, self._samples = self._samples, []
        return taken

    def stop(self) -> None:
        """Ends the thread, with one last sample."""
        self._over.set()
        self._thread.join(1.0)
