"""The finished experiments that this checkout knows: its workspace, commits that hold results, DVC's experiments."""

import hashlib
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from fcn import identity, params, pipeline, recorded
from fcn.errors import UserError
from fcn.params import Params

KEPT = (*identity.CODE, identity.GRAPH, "dvc.lock", "params.yaml", "metrics", "data/own")
PACKED = Path("data/resized")
REF = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")  # queue, stash and the like look otherwise


@dataclass(frozen=True)
class State:
    """One state of the files, from the workspace or from git.

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
        raw = params.parse(self.content["params.yaml"].decode(), f"params.yaml of {self.label}")
        try:
            return params.check(raw, "").model_dump()
        except UserError:
            return raw

    @cached_property
    def digests(self) -> dict[str, str]:
        """sha256 of the code, by path."""
        code = (path for path in self.content if identity.is_code(Path(path)))
        return {path: hashlib.sha256(self.content[path]).hexdigest() for path in code}

    @cached_property
    def lock(self) -> dict[str, Any]:
        """What dvc.lock says of each stage."""
        content = yaml.load(self.content["dvc.lock"], Loader=pipeline.LOADER)
        return dict((content or {}).get("stages", {}))

    @cached_property
    def stages(self) -> dict[str, pipeline.Stage]:
        """The stages whose results are those of this state's params and code, as dvc.lock tells."""
        graph = yaml.load(self.content[identity.GRAPH], Loader=pipeline.LOADER)["stages"]
        entries = {name: pipeline.entry(name, graph[name], self.values) for name in graph if name in self.lock}
        good: dict[str, pipeline.Stage] = {}
        for name, entry in entries.items():  # dvc.yaml stands in the order of the graph
            if self._is_current(entry, {out["path"]: out["md5"] for done in good for out in self.outs(done)}):
                good[name] = entry
        return good

    def _is_current(self, entry: pipeline.Stage, made: Mapping[str, str]) -> bool:
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
            return str(yaml.safe_load(self.content[f"{path}.dvc"])["outs"][0]["md5"])
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
        table = json.loads(self.content["metrics/scores.json"])
        return {f"{net}.{name}": value for net, scores in table.items() for name, value in scores.items()}


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
    lock = recorded.stages(recorded.LOCK.read_bytes()) if recorded.LOCK.is_file() else None
    if not lock or "resize" not in lock or not PACKED.is_dir():
        raise UserError(f"{PACKED} is missing; run `dvc repro resize`")
    for stage in ("download", "resize"):
        made = lock[stage]["params"]["params.yaml"]
        for key, value in pipeline.read(stage, experiment).params.items():
            if key not in made or not identity.same(made[key], value):
                raise UserError(
                    f"{PACKED} was packed with {key}: {made.get(key)}, params.yaml has {value}; run `dvc repro resize`"
                )
    return PACKED


def workspace() -> State | None:
    """The files as they lie here, if anything has run.

    raises   UserError if dvc.lock is cut off
    """
    if not recorded.LOCK.is_file():
        return None
    if recorded.stages(recorded.LOCK.read_bytes()) is None:
        raise UserError("dvc.lock is cut off, as by a kill; `fcn check` says what to do")
    own = Path("data/own")  # pictures beside what git knows of them
    folders = [path for kept in KEPT if Path(kept) != own for path in (Path(kept), *Path(kept).rglob("*"))]
    paths = [path for path in (*folders, own / "none", *own.glob("*.dvc")) if path.is_file()]
    content = {path.as_posix(): path.read_bytes() for path in paths if path.suffix != ".pyc"}
    head = (_git("rev-parse", "HEAD") or b"").decode().strip() or None
    return State("the workspace", content, int(Path("dvc.lock").stat().st_mtime * 1000), head)


def experiments() -> list[State]:
    """DVC's experiments, oldest first."""
    listed = _git("for-each-ref", "--sort=committerdate", "--format=%(objectname) %(refname)", "refs/exps") or b""
    pairs = (line.split(" ", 1) for line in listed.decode().splitlines())
    named = [(commit, match[1]) for commit, ref in pairs if (match := REF.fullmatch(ref))]
    return [state for commit, name in named if (state := _state(f"experiment {name}", commit, name))]


def commits(newest: int) -> list[State]:
    """The newest commits of this branch that changed results, oldest first."""
    listed = _git("log", f"-{newest}", "--format=%H", "--", "dvc.lock", "metrics/scores.json") or b""
    found = (_state(f"commit {commit[:7]}", commit, None) for commit in reversed(listed.decode().split()))
    return [state for state in found if state]


def _state(label: str, commit: str, name: str | None) -> State | None:
    """What a commit holds; None if it has no results of this project."""
    content = _content(commit)
    if not {"dvc.lock", "params.yaml", identity.GRAPH} <= content.keys():
        return None
    facts = (_git("log", "-1", "--format=%ct %P", commit) or b"0").decode().split()
    parents = facts[1:]
    return State(label, content, int(facts[0]) * 1000, parents[0] if name and parents else commit, commit, name)


def _content(commit: str) -> dict[str, bytes]:
    """The kept files of a commit, through one process that is asked for all of them."""
    listed = _git("ls-tree", "-r", "-z", commit, "--", *KEPT) or b""
    entries = [entry.split(b"\t", 1) for entry in listed.split(b"\0") if entry]
    blobs = [(facts.split()[2], path.decode()) for facts, path in entries if facts.split()[1] == b"blob"]
    answer = _git("cat-file", "--batch", stdin=b"".join(blob + b"\n" for blob, _ in blobs)) or b""
    content, start = {}, 0
    for _, path in blobs:
        line = answer.index(b"\n", start)
        size = int(answer[start:line].split()[2])
        content[path] = answer[line + 1 : line + 1 + size]
        start = line + 1 + size + 1
    return content


def _git(*words: str, stdin: bytes = b"") -> bytes | None:
    """What git answers; None where it has no answer, in a folder that is no checkout."""
    done = subprocess.run(["git", *words], input=stdin, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None
