"""What is left of a training that came to numbers that are none: enough to look into it."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from fcn.models.weights import State
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError
from fcn.training.optimizer import Optimizer


def finite(state: State) -> bool:
    """Whether every weight is a number."""
    largest = [tensor.abs().max().float() for tensor in state.values() if tensor.is_floating_point()]
    return bool(torch.stack(largest).isfinite().all())


def stop(what: str, *, stage: str, number: int, lr: float, images: Sequence[str], facts: dict[str, Any]) -> NoReturn:
    """Writes down what is known, and ends the training.

    what    what is no number
    facts   more to write down
    raises  UserError, naming step, images, rate and the file
    """
    path = Path(".fcn") / "failures" / f"{stage}-step-{number}.json"
    content = {"what": what, "stage": stage, "step": number, "lr": lr, "images": list(images), **facts}
    files.write_text(machine.root() / path, json.dumps(content, indent=1) + "\n")
    raise UserError(
        f"{what} at step {number} (lr {lr:.3g}, images {', '.join(images)}); a lower lr may help; "
        f"{path} says more, and the last saved state is kept"
    )


def layers(optimizer: Optimizer) -> dict[str, dict[str, float | int | None]]:
    """Of each weight: the largest value, and how many values are no numbers."""
    found: dict[str, dict[str, float | int | None]] = {}
    for name, tensor in optimizer.masters.items():
        values = tensor.detach()
        good = values[values.isfinite()]
        largest = float(good.abs().max()) if len(good) else math.nan
        found[name] = {"largest": largest if len(good) else None, "not_finite": values.numel() - len(good)}
    return found
