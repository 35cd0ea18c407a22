"""When and where something was measured."""

import datetime
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any


def stamp(*packages: str) -> dict[str, Any]:
    """Date, machine and versions, for a file of results."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    model = re.search(r"model name\s*: (.+)", facts)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpu": model[1] if model else platform.processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": {package: version(package) for package in packages},
    }
