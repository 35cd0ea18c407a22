"""A disk that is full from the n-th file on, tried on every stage: `make fulldisk POINTS=1000`.

The kernel plays the full disk: from the moment at which a stage opens its n-th file for writing, no file
of the stage or its workers may grow (RLIMIT_FSIZE), whoever writes it: Python, safetensors' Rust, SQLite.
What must hold: the stage ends with one line that says what to do, or finishes because only MLflow or a resume
state had no room; every file that was there before is as it was, or is whole and new; nothing half-written
is left; and with room again the stage gives the bits of an undisturbed run.

Runs in the checkout that it is given, whose pipeline must have run. Each try is a fork of one process that
has imported everything.
"""

import argparse
import json
import os
import re
import resource
import runpy
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

STAGES = ("download", "resize", "backbone", "train", "finetune16s", "finetune8s", "evaluate", "report")
LINE = r"error: (File too large|No space left on device): \S+; free some room and run the same command again"
HARMLESS = ("warning: MLflow tracking is off for this stage", "warning: no checkpoint saved")
MLFLOW_AFTER = "finished, MLflow or a resume state without room"
Bytes = dict[Path, bytes]


def outs(stage: str) -> tuple[list[str], list[Path]]:
    """The words of a stage's command, and its outs."""
    from fcn import params
    from fcn.pipeline import dvc_yaml

    experiment = params.load()
    entry = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][stage]
    names = [
        next(iter(out)) if isinstance(out, dict) else out
        for kind in ("outs", "metrics", "plots")
        for out in entry.get(kind, [])
    ]
    words = dvc_yaml.read(stage, experiment).cmd.split()
    return words[2:], [Path(name) for name in names]


def contents(places: list[Path]) -> Bytes:
    found = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file()]
    return {path: path.read_bytes() for path in found}


def fork(words: list[str], full_from: int | None) -> tuple[int, str, int]:
    """Runs a stage in a copy of this process.

    returns  exit status, all that it printed, number of files that it opened for writing
    """
    reader, writer = os.pipe()
    counter, count = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        opened = [0]
        sys.addaudithook(lambda event, values: watch(event, values, opened, full_from))
        code = run(words)
        sys.stdout.flush()
        os.write(count, str(opened[0]).encode())
        os._exit(code)
    os.close(writer)
    os.close(count)
    with os.fdopen(reader, errors="replace") as stream, os.fdopen(counter) as number:
        printed, opened_count = stream.read(), number.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed, int(opened_count or 0)


def watch(event: str, values: tuple[Any, ...], opened: list[int], full_from: int | None) -> None:
    if event != "open" or not isinstance(values[2], int) or not values[2] & (os.O_WRONLY | os.O_RDWR):
        return
    if str(values[0]).startswith("/dev/"):
        return
    opened[0] += 1
    if opened[0] == full_from:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, limit))


def run(words: list[str]) -> int:
    """A stage in this process, as `python -m` would run it."""
    sys.argv = list(words)
    try:
        runpy.run_module(words[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 70
    return 0


def judge(code: int, printed: str, before: Bytes, whole: Bytes, places: list[Path]) -> tuple[str, list[str]]:
    """What a stage on a full disk did, and what was wrong with that."""
    wrong = []
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    if "Traceback" in printed:
        wrong.append(f"a traceback:\n{printed[-3000:]}")
    elif code and (len(lines) != 1 or not re.match(LINE, lines[0])):
        wrong.append(f"no clear line but {printed[-1000:]!r}")
    elif not code and not any(text in printed for text in HARMLESS):
        wrong.append("it noticed nothing")
    for path, content in contents(places).items():
        if path.name.startswith("."):
            wrong.append(f"{path} was left")
        elif content not in (before.get(path), whole.get(path)):
            wrong.append(f"{path} is half written: {len(content)} bytes")
    if not code and contents(places) != whole:
        wrong.append("it said that it finished, and its outs are others")
    return ("refused in one line" if code else MLFLOW_AFTER), wrong


def sweep(stage: str, points: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Tries a stage with the disk full from `points` different files on, evenly spread over all that it opens."""
    words, places = outs(stage)
    copy = Path(".fcn/dvc.lock")  # a stage writes it unless it is there
    whole, single = contents(places), [place for place in places if place.is_file()]
    copy.unlink(missing_ok=True)
    code, printed, most = fork(words, None)
    assert code == 0, printed
    wrong = [] if contents(places) == whole else [f"{stage}: not the same bits when nothing is wrong"]
    tally: Counter[str] = Counter()
    count = min(points, most)
    chosen = [1 + i * (most - 1) // max(1, count - 1) for i in range(count)]
    for number in chosen:
        for place in single:  # what an earlier run left; DVC's own copies are links that must not be written through
            place.unlink(missing_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"old")
        copy.unlink(missing_ok=True)
        before = contents(places)
        code, printed, opened = fork(words, number)
        if opened < number and code == 0 and contents(places) == whole:
            continue  # never full: what it opens besides its outs depends a little on how earlier runs ended
        outcome, found = judge(code, printed, before, whole, places)
        tally[outcome] += 1
        wrong += [f"{stage}, full from file {number} of {most} on: {line}" for line in found]
    code, printed, _ = fork(words, None)
    if code or contents(places) != whole or any(text in printed for text in HARMLESS):
        wrong.append(f"{stage}: with room again it does not go on: {printed[-1000:]}")
    say(f"{stage}: {most} files opened, full from {tally.total()} of them on: {dict(tally)}")
    for line in wrong:
        say(f"    {line}")
    return {"files opened": most, "tried": tally.total(), **tally, "wrong": wrong}


def small(folder: Path) -> Path:
    """A checkout with small params whose pipeline has run."""
    from conftest import Checkout

    folder.mkdir()
    Checkout(folder).run("dvc", "repro")
    return folder


def every(stages: list[str], points: int) -> dict[str, Any]:
    """All stages of the checkout that is the working folder."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "fcn"]:
        del sys.modules[name]  # the working tree's
    sys.path[0] = str(Path.cwd())
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_"))]:
        del os.environ[name]
    from fcn.runtime import machine

    machine.prepare()
    # Before the forks, so that they need not import it: what a stage imports when it opens MLflow's store and trains.
    import mlflow.entities
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    import torch._dynamo  # noqa: F401

    from fcn.rungs import rung  # noqa: F401
    from stress.stamp import stamp

    results = {stage: sweep(stage, points, lambda line: print(line, flush=True)) for stage in stages}
    wrong = [line for result in results.values() for line in result.pop("wrong")]
    return stamp("mlflow", "torch") | {"stages": results, "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", help="else a small one is made and run first")
    parser.add_argument("--points", type=int, default=1000, help="at most, for each stage")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    out = arguments.json and arguments.json.absolute()
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(arguments.checkout or small(Path(temporary) / "checkout"))
        tried = every(arguments.stages, arguments.points)
        os.chdir("/")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(tried, indent=1) + "\n")
    sys.exit(bool(tried["wrong"]))


if __name__ == "__main__":
    main()
