"""The identity of an experiment: its params, code and graph, data, and DVC experiment name."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcn.runtime import files

CODE = ("fcn", "stages")  # folders whose code can change a result
GRAPH = "dvc.yaml"


def is_code(path: Path) -> bool:
    """Whether a file, its path relative to the checkout, is code, a template, a pinned digest or the graph."""
    return path.as_posix() == GRAPH or (path.parts[0] in CODE and path.suffix in (".py", ".html", ".sha256"))


def code(root: Path = Path()) -> dict[str, str]:
    """sha256 of every code file of the checkout (see `is_code`), by path."""
    paths = (path.relative_to(root) for folder in CODE for path in (root / folder).rglob("*"))
    return {path.as_posix(): files.sha256(root / path) for path in [*paths, Path(GRAPH)] if is_code(path)}


@dataclass(frozen=True)
class Experiment:
    """What the stages of one experiment have in common.

    values   params, raw or validated: 1, 1.0 and DVC's '1e+0' are equal
    code     sha256 of each code file, as returned by `code`
    name     the DVC experiment name, if any
    data     md5 of the packed splits, if dvc.lock has it
    """

    values: Mapping[str, Any]
    code: Mapping[str, str]
    name: str | None = None
    data: str | None = None

    @property
    def key(self) -> str:
        """Digest that identifies the experiment's rows."""
        facts = {"params": _canonical(self.values), "code": dict(self.code), "name": self.name}
        facts |= {"data": self.data} if self.data else {}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def base(self) -> str:
        """The key without the DVC experiment name."""
        return replace(self, name=None).key

    @property
    def dataset(self) -> str:
        """The data set's name; for the user's own images, the name of their folder."""
        data = self.values["data"]
        return str(data["folder"]["name"] if data["dataset"] == "folder" else data["dataset"])


def name() -> str | None:
    """The name of the DVC experiment that this process runs in, if any."""
    return os.environ.get("DVC_EXP_NAME")


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Flattens nested sections to dotted keys."""
    pairs: dict[str, object] = {}
    for key, value in values.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return pairs


def same(one: object, other: object) -> bool:
    """Whether two params values are equal."""
    # Compared as JSON, because in Python True == 1.
    return json.dumps(_canonical(one), sort_keys=True) == json.dumps(_canonical(other), sort_keys=True)


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
