"""What DVC cannot check: that a stage declares the packages it imports and the params it reads."""

import ast
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Checkout
from PIL import Image
from pydantic import BaseModel

from fcn import params
from fcn.pipeline import dvc_yaml
from fcn.tracking import identity

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
READERS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "fcn/datasets/sources").glob("[!_]*.py"))


def script(stage: str) -> str:
    words = STAGES[stage]["cmd"].split()
    return words[words.index("-m") + 1].replace(".", "/") + ".py"


def imported(path: str) -> Iterator[str]:
    """The project's files that a file imports, also inside functions."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            for file in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
                if name.partition(".")[0] in ("fcn", "stages") and (ROOT / file).is_file():
                    yield file


def closure(*start: str) -> set[str]:
    found, todo = set(start), list(start)
    while todo:
        new = set(imported(todo.pop())) - found
        found |= new
        todo += new
    return found - {"fcn/__init__.py"}


def test_the_package_itself_does_nothing_when_it_is_imported() -> None:
    body = ast.parse((ROOT / "fcn" / "__init__.py").read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_every_package_that_a_stage_imports_but_tracking(stage: str) -> None:
    """Tracking changes no file. The module of a data set is imported by its name in params."""
    start = [script(stage), *(READERS if stage in ("download", "resize") else ())]
    code = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("fcn/", "stages/"))}
    packages = {"/".join(module.split("/")[:2]) for module in closure(*start)}
    assert code == packages - {"fcn/tracking"}


PACKAGES = {path.stem for path in (ROOT / "fcn").iterdir() if path.suffix == ".py" or path.is_dir()}


def test_a_package_imports_only_from_packages_below_it() -> None:
    """As docs/architecture.md has them: one row of its table is one floor."""
    section = (ROOT / "docs" / "architecture.md").read_text().partition("## Packages")[2].partition("\n## ")[0]
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
    floor = {package: -row for row, names in enumerate(table) for package in re.findall(r"`(\w+)`", names)}
    floor["__main__"] = 1
    assert floor.keys() == PACKAGES - {"__init__", "__pycache__"}
    upward = []
    for path in (ROOT / "fcn").rglob("*.py"):
        module = path.relative_to(ROOT)
        for other in imported(module.as_posix()):
            here, there = (Path(name).with_suffix("").parts[1] for name in (module, other))
            if here != there and "__init__" not in (here, there) and floor[there] >= floor[here]:
                upward.append(f"{module} imports {other}")
    assert upward == []


def test_params_have_no_say_in_the_graph_but_for_one_dep() -> None:
    """DVC passes commands to a shell and deletes outs before a stage can check anything."""
    graph = (ROOT / "dvc.yaml").read_text()
    assert re.findall(r".*\$\{.*", graph) == ["      - data/own/${data.folder.name}"]


def test_no_stage_imports_a_stage() -> None:
    for path in (ROOT / "stages").glob("*.py"):
        assert not [name for name in imported(f"stages/{path.name}") if name.startswith("stages/")]


class Spy:
    """A section of params that records which of its values are read."""

    def __init__(self, section: BaseModel, read: set[str], prefix: str = "") -> None:
        self._section, self._read, self._prefix = section, read, prefix

    def __getattr__(self, name: str) -> Any:
        if name == "rung":
            return lambda stride: self.train if stride == 32 else getattr(self.finetune, f"fcn{stride}s")
        value = getattr(self._section, name)
        if isinstance(value, BaseModel):
            return Spy(value, self._read, f"{self._prefix}{name}.")
        if name not in ("model_dump",):  # the whole experiment, for its fingerprint
            self._read.add(self._prefix + name)
        return value


def leaves(experiment: params.Params, declared: list[str]) -> set[str]:
    values = experiment.model_dump()
    flat = (identity.flat({key: dvc_yaml.lookup(values, key)}) for key in declared)
    return {leaf for keys in flat for leaf in keys}


@pytest.mark.slow
def test_params_name_every_value_that_a_stage_reads_and_no_other(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout.folder)
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    experiment = params.load()
    checkout.set(**{"data.dataset": "folder", "data.folder.name": "mine", "data.folder.fraction": 0.5})
    checkout.set(**{"data.folder.classes": ["sky", "road"]})
    for name in ("images/a", "images/b", "masks/a", "masks/b"):
        path = checkout.folder / "data/own/mine" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), ord(name[-1]) % 2).save(path)
    folder = params.load()
    for stage, entry in STAGES.items():
        read: set[str] = set()
        # The params of the user's own folder are read by the two stages that use it.
        for seen in (experiment, folder) if stage in ("download", "resize") else (experiment,):
            monkeypatch.setattr(params, "load", lambda seen=seen, read=read: Spy(seen, read))
            words = dvc_yaml.read(stage, seen).cmd.split()
            monkeypatch.setattr(sys, "argv", words[2:])
            monkeypatch.syspath_prepend(str(ROOT))
            monkeypatch.delitem(sys.modules, words[2], raising=False)  # another test may have imported it
            runpy.run_module(words[2], run_name="__main__")
        declared = leaves(experiment, dvc_yaml.declared(entry))
        assert read == declared, (
            f"{stage}: reads {sorted(read - declared)} undeclared, declares {sorted(declared - read)} unread"
        )


@pytest.mark.slow
def test_what_fcn8s_alone_reads_trains_fcn8s_alone(ready: Checkout) -> None:
    ready.set(**{"model.at_once": True})
    printed = ready.run("dvc", "repro")
    assert re.findall(r"Running stage '(\w+)'", printed) == ["finetune8s", "evaluate", "report"]


def test_the_whole_of_params_is_declared_by_some_stage() -> None:
    experiment = params.load(ROOT / "params.yaml")
    declared = [key for entry in STAGES.values() for key in dvc_yaml.declared(entry)]
    assert leaves(experiment, declared) == set(identity.flat(experiment.model_dump()))


def test_a_fingerprint_changes_with_params_deps_and_machine(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("1")
    stage = dvc_yaml.Stage("train", "python", (str(tmp_path / "code.py"),), {"lr": 1})
    first = stage.fingerprint(threads=2)
    assert first == stage.fingerprint(threads=2)
    assert first != stage.fingerprint(threads=1)
    assert first != dvc_yaml.Stage("train", "python", stage.deps, {"lr": 2}).fingerprint(threads=2)
    (tmp_path / "code.py").write_text("2")
    assert first != stage.fingerprint(threads=2)
