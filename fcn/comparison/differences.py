"""What differs between two experiments: params, code, other dependencies, and whether their scores can be compared."""

import difflib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fcn.comparison.runs import Run, Side
from fcn.experiments import history
from fcn.experiments.history import Snapshot
from fcn.params import load
from fcn.pipeline import cache, dvc_yaml
from fcn.runtime.errors import UserError, counted
from fcn.tracking import datasets, identity

NONE = "—"
DATA_STAGES = ("download", "resize")
# Params of the other splits, which do not change val.
OF_OTHERS = (
    *("data.splits.train", "data.size.train", "data.scenes.train"),
    *("data.splits.test", "data.scenes.test", "data.folder.test"),
)


@dataclass(frozen=True)
class Changed:
    """A file of the code that differs, with the number of added and removed lines, and the stages that depend on it."""

    path: str
    added: int
    removed: int
    stages: tuple[str, ...]


def params(one: Side, other: Side) -> list[tuple[str, str, str]]:
    """The params that differ: key, and the value of each side, several if its runs differ."""
    keys = {key: None for side in (one, other) for run in side.runs for key in run.params}
    rows = []
    for key in keys:
        values = [
            [_plain(run.params[key]) if key in run.params else NONE for run in side.runs] for side in (one, other)
        ]
        texts = [list(dict.fromkeys(map(str, side))) for side in values]
        if len(texts[0]) == len(texts[1]) == 1:
            differ = not identity.same(values[0][0], values[1][0])
        else:
            differ = sorted(texts[0]) != sorted(texts[1])
        if differ:
            rows.append((key, ", ".join(texts[0]), ", ".join(texts[1])))
    return rows


def _plain(value: object) -> object:
    """A value such that those from files equal those of MLflow, which are text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def code(one: Snapshot, other: Snapshot) -> list[Changed]:
    """The code that differs, of what stages depend on, and the graph."""
    paths = {path: None for state in (one, other) for path in state.digests}
    found = []
    for path in sorted(paths):
        stages = tuple(_readers(path, [one, other]))
        if one.digests.get(path) != other.digests.get(path) and (stages or path == identity.GRAPH):
            found.append(Changed(path, *_lines(*(state.content.get(path, b"") for state in (one, other))), stages))
    return found


def _readers(path: str, states: Sequence[Snapshot]) -> dict[str, None]:
    """The stages that depend on a file or on a folder that contains it."""
    return {
        stage: None
        for state in states
        for stage, entry in state.graph.items()
        if any(path == dep or path.startswith(f"{dep}/") for dep in entry.get("deps", []))
    }


def _lines(one: bytes, other: bytes) -> tuple[int, int]:
    """Numbers of lines that are added and removed."""
    matcher = difflib.SequenceMatcher(None, one.splitlines(), other.splitlines(), autojunk=False)
    changes = [op for op in matcher.get_opcodes() if op[0] != "equal"]
    return sum(end - start for *_, start, end in changes), sum(end - start for _, start, end, *_ in changes)


def inputs(one: Snapshot, other: Snapshot) -> list[str]:
    """Dependencies in dvc.lock that differ and are neither code nor the out of a stage: a user's images, pins."""
    found = []
    for state in (one, other):
        outs = {out["path"] for stage in state.lock for out in state.outs(stage)}
        deps = {dep["path"]: dep["md5"] for stage in state.lock.values() for dep in stage["deps"]}
        found.append({path: md5 for path, md5 in deps.items() if path not in outs and not _is_code(path)})
    paths = sorted(found[0].keys() | found[1].keys())
    return [path for path in paths if found[0].get(path) != found[1].get(path) and not _made(path, (one, other))]


def _is_code(path: str) -> bool:
    return Path(path).parts[0] in identity.CODE


def _made(path: str, states: Sequence[Snapshot]) -> bool:
    """Whether a folder only contains outs, such as metrics/fcn32s."""
    outs = [out["path"] for state in states for stage in state.lock for out in state.outs(stage)]
    return any(out.startswith(f"{path}/") for out in outs)


def incomparable(one: Run, other: Run) -> str:
    """Why the scores cannot be compared: other images, masks or classes of val; empty if they can."""
    if one.data and one.data == other.data:
        return ""
    if one.data and other.data:
        contents = [_Packed(run.data or "") for run in (one, other)]
        if all(content.is_known for content in contents):
            return _of_contents(*contents)
    keys = _data_params([run.state for run in (one, other) if run.state])
    for key in keys:
        values = [_plain(run.params.get(key, NONE)) for run in (one, other)]
        if not identity.same(*values):
            return f"{key} is {values[0]} and {values[1]}"
    if one.data and other.data:
        return f"the packed data differ (md5 {one.data[:7]} and {other.data[:7]}), and DVC's cache cannot tell in what"
    return ""


def _data_params(states: Sequence[Snapshot]) -> list[str]:
    """Dotted keys of the params that determine val, from the graph of one of the states, or of the workspace."""
    graph = states[0].graph if states else dvc_yaml.graph(Path("dvc.yaml").read_text(), "dvc.yaml")
    sections = [key for stage in DATA_STAGES if stage in graph for key in dvc_yaml.declared(graph[stage])]
    known = identity.flat(load().model_dump()) if not states else identity.flat(states[0].values)
    return [
        key
        for key in known
        if key not in OF_OTHERS and any(key == section or key.startswith(f"{section}.") for section in sections)
    ]


class _Packed:
    """The files of packed splits in DVC's cache that scores depend on."""

    def __init__(self, md5: str) -> None:
        folder = history.PACKED.as_posix()
        self.files = {path.removeprefix(f"{folder}/"): digest for path, digest in cache.expand(folder, md5).items()}

    @property
    def is_known(self) -> bool:
        return all(cache.find(self.files.get(name, "")) for name in ("val.csv", "classes.json"))

    def read(self, name: str) -> str:
        path = cache.find(self.files[name])
        return path.read_text(encoding="utf-8") if path else ""

    @property
    def classes(self) -> list[str]:
        return list(json.loads(self.read("classes.json")))

    @property
    def images(self) -> list[str]:
        table = pd.read_csv(io.StringIO(self.read("val.csv")), usecols=["id"], dtype=str, na_filter=False)
        return [str(name) for name in table["id"]]


def _of_contents(one: _Packed, other: _Packed) -> str:
    try:
        classes, images = (one.classes, other.classes), (one.images, other.images)
    except ValueError:
        raise UserError("DVC's cache has a damaged data/resized; `fcn doctor` finds damaged files") from None
    if classes[0] != classes[1]:
        return f"the classes differ: {_sets(*classes, 'class', 'classes')}"
    if images[0] != images[1]:
        return f"the images of val differ: {_sets(*images, 'image', 'images')}"
    if one.files.get("val.masks") != other.files.get("val.masks"):
        return f"the masks of val differ: other labels or another size of the same {counted(len(images[0]), 'image')}"
    return ""


def _sets(one: Sequence[str], other: Sequence[str], singular: str, plural: str) -> str:
    only = [[name for name in names if name not in set(rest)] for names, rest in ((one, other), (other, one))]
    if not any(only):
        return f"the same {plural} in another order"
    texts = [counted(len(one), singular, plural), counted(len(other), singular, plural)]
    examples = [
        f"only in the {which}: {names[0]}" for which, names in zip(("first", "second"), only, strict=True) if names
    ]
    return f"{' and '.join(texts)}; {', '.join(examples)}"


def is_same_test(runs: Sequence[Run]) -> bool:
    """Whether all were scored on the same held-out split."""
    digests = {run.state.digest(datasets.TEST) if run.state else None for run in runs}
    return len(digests) == 1 and None not in digests
