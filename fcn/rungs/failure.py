"""Stops a training whose loss or weights are not finite, and writes a report for debugging."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from fcn.models import State
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError
from fcn.training.optimizer import Optimizer


def finite(state: State) -> bool:
    """Whether all weights are finite."""
    largest = [tensor.abs().max().float() for tensor in state.values() if tensor.is_floating_point()]
    return bool(torch.stack(largest).isfinite().all())


def stop(what: str, *, stage: str, number: int, lr: float, images: Sequence[str], facts: dict[str, Any]) -> NoReturn:
    """Writes a report and ends the training.

    what    what is not finite
    facts   further content of the report
    raises  UserError naming the step, learning rate, images and report
    """
    path = Path(".fcn") / "failures" / f"{stage}-step-{number}.json"
    content = {"what": what, "stage": stage, "step": number, "lr": lr, "images": list(images), **facts}
    files.write_text(machine.root() / path, json.dumps(content, indent=1) + "\n")
    raise UserError(
        f"{what} at step {number} (lr {lr:.3g}, images {', '.join(images)}); a lower lr may help; "
        f"see {path}; the last checkpoint is kept"
    )


def layers(optimizer: Optimizer) -> dict[str, dict[str, float | int | None]]:
    """For each weight: its largest absolute value, and how many values are not finite."""
    statistics: dict[str, dict[str, float | int | None]] = {}
    for name, tensor in optimizer.masters.items():
        values = tensor.detach()
        finite_values = values[values.isfinite()]
        largest = float(finite_values.abs().max()) if len(finite_values) else None
        statistics[name] = {"largest": largest, "not_finite": values.numel() - len(finite_values)}
    return statistics
