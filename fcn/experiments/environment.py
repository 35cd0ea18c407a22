"""When and where the stages of an experiment ran, from MLflow. It varies between runs, so no DVC out contains it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fcn.experiments.history import Snapshot
from fcn.report.page import Environment
from fcn.runtime import files
from fcn.tracking import store
from fcn.tracking.store import Store
from fcn.training import verification

LOAD, MEMORY = "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"
MACHINE = ("host", "cpu", "cores", "device", "system", "python")  # a run's tags `fcn.…`, beside `fcn.version.…`


def gather(state: Snapshot, weights: Path) -> Environment:
    """The environment of the MLflow runs that produced the workspace's results.

    state     the workspace
    weights   folder of the model files
    """
    runs, complaint = store.opened()
    if runs is None:
        return Environment({"Not known": complaint}, [])
    stage_runs = dict(_runs(runs, state, weights))
    machines: dict[str, list[str]] = {}
    for stage, run in stage_runs.items():
        machines.setdefault(_machine(run.data.tags) if run else "no run in MLflow", []).append(stage)
    facts = {", ".join(stages): text for text, stages in machines.items()}
    return Environment(facts, [(stage, *_cells(runs, run)) for stage, run in stage_runs.items()])


def _runs(runs: Store, state: Snapshot, weights: Path) -> Iterator[tuple[str, Any]]:
    """Each tracked stage with its newest run that wrote, or scored, exactly these files; None if there is none."""
    digests = {f"fcn{stride}s": files.sha256(weights / f"fcn{stride}s.safetensors") for stride in verification.STAGES}
    for (_, stage), digest in zip(verification.STAGES.items(), digests.values(), strict=True):
        yield stage, _newest(runs, f"tags.stage = '{stage}' and tags.`model.sha256` = '{digest}'", {})
    condition = "".join(f" and tags.`{net}.sha256` = '{digest}'" for net, digest in digests.items())
    scored = _newest(runs, f"tags.stage = 'evaluate'{condition}", state.scores)
    yield "evaluate", scored
    row = scored.data.tags["mlflow.parentRunId"] if scored else ""
    yield "report", _newest(runs, f"tags.stage = 'report' and tags.`mlflow.parentRunId` = '{row}'", {})


def _newest(runs: Store, condition: str, scores: dict[str, float]) -> Any:
    """The newest run with these scores that its stage logged itself, and that `fcn sync` did not rebuild."""
    finished = runs.find(f"{condition} and attributes.status = 'FINISHED'")
    originals = (run for run in finished if "fcn.rebuilt" not in run.data.tags)
    rounded = {name: store.rounded(value) for name, value in scores.items()}
    return next((run for run in originals if rounded.items() <= run.data.metrics.items()), None)


def _machine(tags: dict[str, str]) -> str:
    """Host, processor and versions in one line."""
    values = {key.removeprefix("fcn."): value for key, value in tags.items() if key.startswith("fcn.")}
    if "host" not in values:
        return "a run of an older fcn, which did not record its machine"
    facts = {key: values[key] for key in MACHINE}
    packages = (key for key in values if key.startswith("version."))
    versions = ", ".join(f"{key.removeprefix('version.')} {values[key]}" for key in packages)
    return (
        f"{facts['host']}: {facts['cpu']}, {facts['cores']} cores, computing on {facts['device']}; "
        f"{facts['system']}, Python {facts['python']}, {versions}"
    )


def _cells(runs: Store, run: Any) -> tuple[str, str, str, str]:
    """Start, duration, CPU load and memory, formatted."""
    if run is None:
        return ("—",) * 4
    start = int(run.data.tags.get("fcn.began", run.info.start_time))  # ms; a stage that runs again reuses its run
    began, seconds = datetime.fromtimestamp(start / 1000, UTC), (run.info.end_time - start) / 1000
    took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
    load, memory = ([p.value for p in runs.client.get_metric_history(run.info.run_id, name)] for name in (LOAD, MEMORY))
    return (
        f"{began:%d %b %Y %H:%M:%S}",
        took,
        f"{sum(load) / len(load):.0f} %" if load else "—",
        f"{max(memory) / 1000:.1f} GB" if memory else "—",
    )
