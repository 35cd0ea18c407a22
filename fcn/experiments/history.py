"""The finished experiments of this checkout: its workspace, commits with results, and DVC experiments."""

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fcn import params
from fcn.ladder import HELD_OUT
from fcn.params import Params
from fcn.pipeline import dvc_lock, dvc_yaml
from fcn.runtime import documents
from fcn.runtime.commands import git
from fcn.runtime.errors import UserError
from fcn.tracking import identity
from fcn.tracking.identity import Experiment

KEPT = (*identity.CODE, identity.GRAPH, "dvc.lock", "params.yaml", "metrics", "data/own", "data/pins")
PACKED = Path("data/resized")
MAX_FILE_SIZE = 100_000_000  # bytes of a file in a commit
REF = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")  # refs of the queue, stash etc. have another form


@dataclass(frozen=True)
class Snapshot:
    """The files of an experiment, from the workspace or from git. They are untrusted and are validated when read.

    Its properties raise UserError if a file is invalid.

    label    name for messages
    content  the experiment's files that git tracks, by path
    time     of its commit, in milliseconds
    code     the commit of its code, if known
    commit   the commit that contains its results, if any
    name     the DVC experiment name, if any
    """

    label: str
    content: Mapping[str, bytes] = field(repr=False)
    time: int
    code: str | None = None
    commit: str | None = None
    name: str | None = None

    @cached_property
    def values(self) -> dict[str, Any]:
        """The params: validated if they fit the current schema, else as written."""
        raw = params.parse(self._text("params.yaml"), f"params.yaml of {self.label}")
        try:
            return params.check(raw, "").model_dump()
        except UserError:
            return raw

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment's identity."""
        experiment = Experiment(self.values, self.digests, self.name, dvc_lock.packed(self.lock))
        try:
            experiment.dataset  # noqa: B018
        except (KeyError, TypeError):
            raise UserError(f"params.yaml of {self.label} has no data.dataset") from None
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
        """The entry of each stage in dvc.lock."""
        where = f"dvc.lock of {self.label}"
        return dvc_lock.checked(documents.load_yaml(self._text("dvc.lock"), where) or {}, where)

    @cached_property
    def graph(self) -> dict[str, Any]:
        """The entry of each stage in dvc.yaml."""
        return dvc_yaml.graph(self._text(identity.GRAPH), f"{identity.GRAPH} of {self.label}")

    @cached_property
    def stages(self) -> dict[str, dvc_yaml.Stage]:
        """The stages whose results are up to date with this snapshot's params and code, according to dvc.lock."""
        current: dict[str, dvc_yaml.Stage] = {}
        for name, written in self.graph.items():  # dvc.yaml lists stages in topological order
            if name not in self.lock:
                continue
            try:
                entry = dvc_yaml.entry(name, written, self.values)
            except (KeyError, TypeError):
                continue  # it declares a param that is missing in params.yaml, so it cannot have run
            if self._is_current(entry, {out["path"]: out["md5"] for done in current for out in self.outs(done)}):
                current[name] = entry
        return current

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
        if f"{path}.dvc" in self.content:  # the user's own folder, tracked by DVC
            content: Any = documents.load_yaml(self._text(f"{path}.dvc"), f"{path}.dvc of {self.label}")
            try:
                return str(content["outs"][0]["md5"])
            except (KeyError, TypeError, IndexError):
                return None
        return None

    def outs(self, stage: str) -> list[dict[str, Any]]:
        """A stage's outs in dvc.lock, each with `path` and `md5`."""
        return list(self.lock[stage].get("outs", []))

    def digest(self, path: str) -> str | None:
        """The md5 of an out in dvc.lock."""
        digests = (out["md5"] for stage in self.lock for out in self.outs(stage) if out["path"] == path)
        return next(digests, None)

    @cached_property
    def scores(self) -> dict[str, float]:
        """Scores by `NET.SCORE`, if the evaluation is up to date; those on the held-out split begin with HELD_OUT."""
        found: dict[str, float] = {}
        for path, prefix in (("metrics/test.json", HELD_OUT), ("metrics/scores.json", "")):
            if "evaluate" in self.stages and path in self.content:
                for name, value in parse_scores(self.content[path], f"{path} of {self.label}").items():
                    net, _, score = name.partition(".")
                    found[f"{net}.{prefix}{score}"] = value
        return found

    def check(self) -> None:
        """Reads and validates all files.

        raises   UserError if one of them is invalid
        """
        _ = self.experiment, self.scores


def parse_scores(content: bytes, where: str) -> dict[str, float]:
    """Scores by `NET.SCORE` from the content of a scores.json.

    raises   UserError if it is not a table of scores by net
    """
    try:
        table = json.loads(content)
        values = {f"{net}.{name}": value for net, scores in table.items() for name, value in scores.items()}
    except (ValueError, AttributeError, RecursionError):
        raise UserError(f"{where} is not a table of scores by net") from None
    for name, value in values.items():
        if not re.fullmatch(r"[\w-]{1,40}\.[\w-]{1,40}", name) or type(value) is not float or math.isinf(value):
            raise UserError(f"{where}: {name[:80]!r} is {value!s:.80}, which is not a score")
    return {name: value for name, value in values.items() if value == value}  # NaN if a split has no valid pixel


def _folder_md5(content: Mapping[str, bytes]) -> str:
    """DVC's digest of a folder: the md5 of the JSON list of its files' md5 and paths, in order of path."""
    listed = [
        {"md5": hashlib.md5(text, usedforsecurity=False).hexdigest(), "relpath": path} for path, text in content.items()
    ]
    return hashlib.md5(json.dumps(listed).encode(), usedforsecurity=False).hexdigest() + ".dir"


def packed(experiment: Params) -> Path:
    """The folder of packed splits.

    raises   UserError if it is missing, or was packed with other params than the experiment's
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
    """A snapshot of the workspace; None if no stage has run yet.

    raises   UserError if dvc.lock is truncated
    """
    if not dvc_lock.LOCK.is_file():
        return None
    if dvc_lock.stages(dvc_lock.LOCK.read_bytes()) is None:
        raise UserError("dvc.lock is truncated, as after a kill; `fcn check` says what to do")
    own = Path("data/own")  # contains images, which git does not track, and .dvc files, which it does
    folders = [path for kept in KEPT if Path(kept) != own for path in (Path(kept), *Path(kept).rglob("*"))]
    paths = [path for path in (*folders, own / "none", *own.glob("*.dvc")) if path.is_file()]
    content = {path.as_posix(): path.read_bytes() for path in paths if path.suffix != ".pyc"}
    head = (git("rev-parse", "HEAD") or b"").decode().strip() or None
    return Snapshot("the workspace", content, int(Path("dvc.lock").stat().st_mtime * 1000), head)


def known(newest: int) -> tuple[list[Snapshot], list[str]]:
    """DVC experiments, the newest commits with results, and the workspace, each oldest first.

    newest   number of commits with results
    returns  snapshots, and one line for each that was skipped because a file is invalid
    raises   UserError if the workspace's dvc.lock is truncated
    """
    here = workspace()
    snapshots, skipped = [here] if here else [], list[str]()
    for label, commit, name in reversed([*_experiments(), *_commits(newest)]):
        try:
            state = snapshot(label, commit, name)
            if state:
                state.check()
                snapshots.insert(0, state)
        except UserError as error:
            skipped.insert(0, f"{label}: skipped, {error}")
    if here:
        here.check()
    return snapshots, skipped


def names() -> list[str]:
    """The names of the DVC experiments, of any baseline."""
    return sorted({name for _, _, name in _experiments() if name})


def experiments(name: str) -> list[Snapshot]:
    """The DVC experiments of this name, newest first. Their files are not validated yet."""
    found = [(label, commit) for label, commit, other in _experiments() if other == name]
    return [state for label, commit in reversed(found) if (state := snapshot(label, commit, name))]


def remove(names: Collection[str]) -> None:
    """Removes the DVC experiments of these names, of any baseline."""
    listed = git("for-each-ref", "--format=%(refname)", "refs/exps") or b""
    for ref in listed.decode("utf-8", "replace").splitlines():
        if (match := REF.fullmatch(ref)) and match[1] in names:
            git("update-ref", "-d", ref)


def _experiments() -> list[tuple[str, str, str | None]]:
    """Label, commit and name of each DVC experiment."""
    listed = git("for-each-ref", "--sort=committerdate", "--format=%(objectname) %(refname)", "refs/exps") or b""
    pairs = (line.split(" ", 1) for line in listed.decode("utf-8", "replace").splitlines())
    return [(f"experiment {match[1]}", commit, match[1]) for commit, ref in pairs if (match := REF.fullmatch(ref))]


def _commits(newest: int) -> list[tuple[str, str, str | None]]:
    """Label, commit and no name, for the newest commits of this branch that changed results."""
    listed = git("log", f"-{newest}", "--format=%H", "--", "dvc.lock", "metrics/scores.json") or b""
    return [(f"commit {commit[:7]}", commit, None) for commit in reversed(listed.decode().split())]


def snapshot(label: str, commit: str, name: str | None = None) -> Snapshot | None:
    """The snapshot of a commit; None if it has no results of this project. Its files are not validated yet."""
    content = _content(commit, label)
    if not {"dvc.lock", "params.yaml", identity.GRAPH} <= content.keys():
        return None
    facts = (git("log", "-1", "--format=%ct %P", commit) or b"0").decode().split()
    parents = facts[1:]
    return Snapshot(label, content, int(facts[0]) * 1000, parents[0] if name and parents else commit, commit, name)


def _content(commit: str, label: str) -> dict[str, bytes]:
    """The files of a commit below the paths in KEPT, read with a single `git cat-file --batch`."""
    listed = git("ls-tree", "-r", "-l", "-z", commit, "--", *KEPT) or b""
    entries = [entry.split(b"\t", 1) for entry in listed.split(b"\0") if entry]
    blobs = []
    for facts, name in entries:
        _, kind, blob, size = facts.split()
        path = name.decode("utf-8", "surrogateescape")
        if kind == b"blob" and size.isdigit() and int(size) > MAX_FILE_SIZE:
            raise UserError(f"{path!r} of {label} has {int(size)} bytes; at most {MAX_FILE_SIZE} are read")
        if kind == b"blob":
            blobs.append((blob, path))
    output = git("cat-file", "--batch", stdin=b"".join(blob + b"\n" for blob, _ in blobs)) or b""
    content, start = {}, 0
    for _, path in blobs:
        line = output.find(b"\n", start)
        header = output[start:line].split()  # object id, type, size
        if len(header) != 3:
            raise UserError(f"git does not have {path!r} of {label}")
        end = line + 1 + int(header[2])
        content[path] = output[line + 1 : end]
        start = end + 1
    return content
