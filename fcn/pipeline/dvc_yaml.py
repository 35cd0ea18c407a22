"""dvc.yaml: the command, dependencies and params of a stage, and a fingerprint of them."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from fcn.params import Params
from fcn.runtime import documents, files
from fcn.runtime.errors import UserError

PARAMS = "params.yaml"


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml with its ${…} substituted.

    params   the params it declares: values of this experiment by dotted key
    """

    name: str
    cmd: str
    deps: tuple[str, ...]
    params: dict[str, Any]

    def fingerprint(self, **machine: str | int) -> str:
        """sha256 of everything that the result depends on: command, content of the deps, params, machine."""
        facts = {
            "cmd": self.cmd,
            "deps": {dep: files.sha256(Path(dep)) for dep in self.deps},
            "params": self.params,
            "machine": machine,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read(name: str, params: Params, path: Path = Path("dvc.yaml")) -> Stage:
    """The stage of this name in dvc.yaml."""
    graph: Any = documents.load_yaml(documents.read(path), str(path))
    return entry(name, graph["stages"][name], params.model_dump())


def graph(text: str, where: str) -> dict[str, Any]:
    """Entries of a dvc.yaml by stage name. Entries in a form that this project does not use (foreach) are left out."""
    content = documents.load_yaml(text, where)
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        raise UserError(f"{where}: there are no stages")
    return {name: stage for name, stage in stages.items() if _is_plain(stage)}


def _is_plain(stage: object) -> bool:
    if not isinstance(stage, dict) or not isinstance(stage.get("cmd"), str):
        return False
    deps, params = stage.get("deps", []), stage.get("params", [])
    if not isinstance(deps, list) or not isinstance(params, list):
        return False
    groups = [group for group in params if not isinstance(group, str)]
    named = all(isinstance(group, dict) and [*group] == [PARAMS] for group in groups)
    lists = [deps, *(group[PARAMS] for group in groups if named)]
    return named and all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in lists)


def declared(stage: dict[str, Any]) -> list[str]:
    """Dotted keys of params.yaml that an entry declares, directly or in a list under `params.yaml`."""
    groups = (group[PARAMS] if isinstance(group, dict) else [group] for group in stage.get("params", []))
    return [key for group in groups for key in group]


def entry(name: str, content: dict[str, Any], values: dict[str, Any]) -> Stage:
    """The stage of an entry of dvc.yaml for these values of params."""

    def fill(text: str) -> str:
        return re.sub(r"\$\{([\w.]+)\}", lambda match: str(lookup(values, match[1])), text)

    params = {key: lookup(values, key) for key in declared(content)}
    return Stage(name, fill(content["cmd"]), tuple(map(fill, content.get("deps", []))), params)


def lookup(values: dict[str, Any], key: str) -> Any:
    """The value of a dotted key: a single value or a whole section."""
    return reduce(lambda section, part: section[part], key.split("."), values)
