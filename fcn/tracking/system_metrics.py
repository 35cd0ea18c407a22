"""System metrics during a stage: CPU, memory, disk, network, and GPU if there is one."""

import threading
import time
from contextlib import suppress
from typing import Any

INTERVAL = 10.0  # seconds between two samples


class SystemMetrics:
    """Samples system metrics in a background thread.

    The thread only collects: it does not access the store and draws no random numbers. `drain` returns the samples.
    """

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        # MLflow's monitors without its thread, which writes to the store and delays the exit of the process.
        kinds: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor]
        self._monitors: list[Any] = []
        for kind in kinds:
            with suppress(Exception):  # no GPU, no driver, no nvidia-ml-py
                self._monitors.append(kind())
        self._samples: list[dict[str, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._collect, daemon=True, name="system_metrics")
        self._thread.start()

    def _collect(self) -> None:
        with suppress(Exception):  # a sensor fails: earlier samples are kept
            self._sample()  # discarded, because it covers the time before the stage
            while True:
                stopped = self._stopped.wait(INTERVAL)
                self._samples.append(self._sample())
                if stopped:
                    return

    def _sample(self) -> dict[str, float]:
        values: dict[str, float] = {"time": int(time.time() * 1000)}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return values

    def drain(self) -> list[dict[str, float]]:
        """Returns and removes the samples collected so far: `time` (ms) and values under MLflow's metric names."""
        samples, self._samples = self._samples, []
        return samples

    def stop(self) -> None:
        """Takes one last sample and ends the thread."""
        self._stopped.set()
        self._thread.join(1.0)
