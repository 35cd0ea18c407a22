"""What a benchmark says of the machine, and where its results go."""

import datetime
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fcn.runtime import files, machine


def facts() -> dict[str, Any]:
    """Date, machine, versions and threads."""
    gpu = torch.cuda.get_device_name() if machine.device().type == "cuda" else None
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine.facts() | ({"gpu": gpu} if gpu else {}),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "torchvision")},
    }


def record(path: Path, results: dict[str, Any]) -> None:
    """Writes results as JSON and says where."""
    files.write_text(path, json.dumps(results, indent=1) + "\n")
    print(f"wrote {path}")
