"""The finished experiments that this checkout knows: its workspace, commits that hold results, DVC's experiments."""

import hashlib
import json
import math
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fcn import params
from fcn.params import Params
from fcn.pipeline import dvc_lock, dvc_yaml
from fcn.runtime import documents
from fcn.runtime.errors import UserError
from fcn.tracking import identity
from fcn.tracking.identity import Experiment

KEPT = (*identity.CODE, identity.GRAPH, "dvc.lock", "params.yaml", "metrics", "data/own", "data/pins")
PACKED = Path("data/resized")
LARGEST = 100_000_000  # bytes of a file that git keeps of an experiment
REF = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")  # queue, stash and the like look otherwise


@dataclass(frozen=True)
class Snapshot:
    """One state of the files, from the workspace or from git. What it says is checked: anybody may have written it.

    Its properties raise UserError if a file says what none of this project's would.

    label    what to call it in print
    content  the files that git keeps of an experiment, by path
    time     of its commit, in milliseconds
    code     the commit that its code comes from, if known
    commit   the commit that holds its results, if one does
    name     DVC's name of the experiment, if it has one
    """

    label: str
    content: Mapping[str, bytes] = field(repr=False)
    time: int
    code: str | None = None
    commit: str | None = None
    name: str | None = None

    @cached_property
    def values(self) -> dict[str, Any]:
        """The params, checked if today's schema still knows them all, else as they were written."""
        raw = params.parse(self._text("params.yaml"), f"params.yaml of {self.label}")
        try:
            return params.check(raw, "").model_dump()
        except UserError:
            return raw

    @cached_property
    def experiment(self) -> Experiment:
        """What makes it the same experiment as another."""
        experiment = Experiment(self.values, self.digests, self.name, dvc_lock.packed(self.lock))
        try:
            experiment.dataset  # noqa: B018
        except (KeyError, TypeError):
            raise UserError(f"params.yaml of {self.label}: there is no data.dataset") from None
        return experiment

    def _text(self, path: str) -> str:
        return documents.decode(self.content[path], f"{path} of {self.label}")

    @cached_property
    def digests(self) -> dict[str, str]:
        """sha256 of the code, by path."""
        code = (path for path in self.content if identity.is_code(Path(path)))
        return {path: hashlib.sha256(self.content[path]).hexdigest() for path in code}

    @cached_property
    def lock(self) -> dict[str, Any]:
        """What dvc.lock says of each stage."""
        where = f"dvc.lock of {self.label}"
        return dvc_lock.checked(documents.load_yaml(self._text("dvc.lock"), where) or {}, where)

    @cached_property
    def graph(self) -> dict[str, Any]:
        """What dvc.yaml says of each stage."""
        return dvc_yaml.graph(self._text(identity.GRAPH), f"{identity.GRAPH} of {self.label}")

    @cached_property
    def stages(self) -> dict[str, dvc_yaml.Stage]:
        """The stages whose results are those of this state's params and code, as dvc.lock tells."""
        good: dict[str, dvc_yaml.Stage] = {}
        for name, written in self.graph.items():  # dvc.yaml stands in the order of the graph
            if name not in self.lock:
                continue
            try:
                entry = dvc_yaml.entry(name, written, self.values)
            except (KeyError, TypeError):
                continue  # it declares a param that params.yaml has not: nothing ran like this
            if self._is_current(entry, {out["path"]: out["md5"] for done in good for out in self.outs(done)}):
                good[name] = entry
        return good

    def _is_current(self, entry: dvc_yaml.Stage, made: Mapping[str, str]) -> bool:
        locked = self.lock[entry.name]
        deps = {dep["path"]: dep["md5"] for dep in locked.get("deps", [])}
        now = {dep: self._md5(dep) or made.get(dep) for dep in entry.deps}
        tracked = {out["path"]: out["md5"] for out in self.outs(entry.name) if out["path"] in self.content}
        return (
            " ".join(locked["cmd"].split()) == " ".join(entry.cmd.split())
            and deps == now
            and identity.same(locked.get("params", {}).get("params.yaml", {}), entry.params)
            and all(self._md5(path) == digest for path, digest in tracked.items())
        )

    def _md5(self, path: str) -> str | None:
        if inside := [name for name in self.content if name.startswith(f"{path}/")]:
            return _folder_md5({name.removeprefix(f"{path}/"): self.content[name] for name in sorted(inside)})
        if path in self.content:
            return hashlib.md5(self.content[path], usedforsecurity=False).hexdigest()
        if f"{path}.dvc" in self.content:  # a folder of one's own, which DVC keeps
            content: Any = documents.load_yaml(self._text(f"{path}.dvc"), f"{path}.dvc of {self.label}")
            try:
                return str(content["outs"][0]["md5"])
            except (KeyError, TypeError, IndexError):
                return None
        return None

    def outs(self, stage: str) -> list[dict[str, Any]]:
        """What dvc.lock says of a stage's outs: `path` and `md5` each."""
        return list(self.lock[stage].get("outs", []))

    def digest(self, path: str) -> str | None:
        """The md5 that dvc.lock has of an out."""
        found = (out["md5"] for stage in self.lock for out in self.outs(stage) if out["path"] == path)
        return next(found, None)

    @cached_property
    def scores(self) -> dict[str, float]:
        """`NET.SCORE` and its value, if the evaluation is this state's own."""
        if "evaluate" not in self.stages or "metrics/scores.json" not in self.content:
            return {}
        return _scores(self.content["metrics/scores.json"], f"metrics/scores.json of {self.label}")

    def check(self) -> None:
        """Reads all that is said.

        raises   UserError in one line
        """
        _ = self.experiment, self.scores


def _scores(content: bytes, where: str) -> dict[str, float]:
    try:
        table = json.loads(content)
        found = {f"{net}.{name}": value for net, scores in table.items() for name, value in scores.items()}
    except (ValueError, AttributeError, RecursionError):
        raise UserError(f"{where}: no table of scores by net") from None
    for name, value in found.items():
        if not re.fullmatch(r"[\w-]{1,40}\.[\w-]{1,40}", name) or type(value) is not float or math.isinf(value):
            raise UserError(f"{where}: {name[:80]!r} is {value!s:.80}, which is no score")
    return {name: value for name, value in found.items() if value == value}  # NaN: of a split without a valid pixel


def _folder_md5(content: Mapping[str, bytes]) -> str:
    """DVC's digest of a folder: that of the list of its files' digests, by path in their order."""
    listed = [
        {"md5": hashlib.md5(text, usedforsecurity=False).hexdigest(), "relpath": path} for path, text in content.items()
    ]
    return hashlib.md5(json.dumps(listed).encode(), usedforsecurity=False).hexdigest() + ".dir"


def packed(experiment: Params) -> Path:
    """The folder of packed splits.

    raises   UserError if there is none, or it was packed with other params than the experiment's
    """
    lock = dvc_lock.read()
    if "resize" not in lock or not PACKED.is_dir():
        raise UserError(f"{PACKED} is missing; run `dvc repro resize`")
    for stage in ("download", "resize"):
        made = lock[stage]["params"].get("params.yaml", {})
        for key, value in dvc_yaml.read(stage, experiment).params.items():
            if key not in made or not identity.same(made[key], value):
                raise UserError(
                    f"{PACKED} was packed with {key}: {made.get(key)}, params.yaml has {value}; run `dvc repro resize`"
                )
    return PACKED


def workspace() -> Snapshot | None:
    """The files as they lie here, if anything has run.

    raises   UserError if dvc.lock is cut off
    """
    if not dvc_lock.LOCK.is_file():
        return None
    if dvc_lock.stages(dvc_lock.LOCK.read_bytes()) is None:
        raise UserError("dvc.lock is cut off, as by a kill; `fcn check` says what to do")
    own = Path("data/own")  # pictures beside what git knows of them
    folders = [path for kept in KEPT if Path(kept) != own for path in (Path(kept), *Path(kept).rglob("*"))]
    paths = [path for path in (*folders, own / "none", *own.glob("*.dvc")) if path.is_file()]
    content = {path.as_posix(): path.read_bytes() for path in paths if path.suffix != ".pyc"}
    head = (_git("rev-parse", "HEAD") or b"").decode().strip() or None
    return Snapshot("the workspace", content, int(Path("dvc.lock").stat().st_mtime * 1000), head)


def known(newest: int) -> tuple[list[Snapshot], list[str]]:
    """DVC's experiments, the newest commits with results and the workspace, each oldest first; and a line for each
    that is left out because of what its files say.

    raises   UserError if the workspace's dvc.lock is cut off
    """
    here = workspace()
    good, lines = [here] if here else [], list[str]()
    for label, commit, name in reversed([*_experiments(), *_commits(newest)]):
        try:
            state = _state(label, commit, name)
            if state:
                state.check()
                good.insert(0, state)
        except UserError as error:
            lines.insert(0, f"{label}: left out, {error}")
    if here:
        here.check()
    return good, lines


def _experiments() -> list[tuple[str, str, str | None]]:
    """Label, commit and name of DVC's experiments."""
    listed = _git("for-each-ref", "--sort=committerdate", "--format=%(objectname) %(refname)", "refs/exps") or b""
    pairs = (line.split(" ", 1) for line in listed.decode("utf-8", "replace").splitlines())
    return [(f"experiment {match[1]}", commit, match[1]) for commit, ref in pairs if (match := REF.fullmatch(ref))]


def _commits(newest: int) -> list[tuple[str, str, str | None]]:
    """Label and commit of the newest commits of this branch that changed results."""
    listed = _git("log", f"-{newest}", "--format=%H", "--", "dvc.lock", "metrics/scores.json") or b""
    return [(f"commit {commit[:7]}", commit, None) for commit in reversed(listed.decode().split())]


def _state(label: str, commit: str, name: str | None) -> Snapshot | None:
    """What a commit holds; None if it has no results of this project."""
    content = _content(commit, label)
    if not {"dvc.lock", "params.yaml", identity.GRAPH} <= content.keys():
        return None
    facts = (_git("log", "-1", "--format=%ct %P", commit) or b"0").decode().split()
    parents = facts[1:]
    return Snapshot(label, content, int(facts[0]) * 1000, parents[0] if name and parents else commit, commit, name)


def _content(commit: str, label: str) -> dict[str, bytes]:
    """The kept files of a commit, through one process that is asked for all of them."""
    listed = _git("ls-tree", "-r", "-l", "-z", commit, "--", *KEPT) or b""
    entries = [entry.split(b"\t", 1) for entry in listed.split(b"\0") if entry]
    blobs = []
    for facts, name in entries:
        _, kind, blob, size = facts.split()
        path = name.decode("utf-8", "surrogateescape")
        if kind == b"blob" and size.isdigit() and int(size) > LARGEST:
            raise UserError(f"{path!r} of {label} has {int(size)} bytes, more than any file of results")
        if kind == b"blob":
            blobs.append((blob, path))
    answer = _git("cat-file", "--batch", stdin=b"".join(blob + b"\n" for blob, _ in blobs)) or b""
    content, start = {}, 0
    for _, path in blobs:
        line = answer.find(b"\n", start)
        said = answer[start:line].split()
        if len(said) != 3:
            raise UserError(f"git does not have {path!r} of {label}")
        end = line + 1 + int(said[2])
        content[path] = answer[line + 1 : end]
        start = end + 1
    return content


def _git(*words: str, stdin: bytes = b"") -> bytes | None:
    """What git answers; None where it has no answer, in a folder that is no checkout."""
    done = subprocess.run(["git", *words], input=stdin, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None
