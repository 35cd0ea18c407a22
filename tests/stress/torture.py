"""SIGKILL at random moments of a small pipeline, over and over; in the end, the bits of an undisturbed run.

`make torture KILLS=100 SEED=1` draws, for each stage its share, a moment within the stage's measured
duration (or within one of MLflow's write transactions) and a victim: DVC with all its processes, the
stage's process alone, or DVC alone, whose stage then lives on as an orphan. After each kill it types
`dvc repro` again, as a person would, without waiting for orphans.

What must hold in the end, and what the exit status says: dvc.lock, weights and metrics identical to
the undisturbed run's, one row in MLflow, FINISHED, no run left RUNNING, no checkpoint, no temporary file,
no process.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from conftest import ROOT, Checkout

from fcn.pipeline import dvc_lock
from fcn.runtime import files
from stress.stamp import stamp

STAGES = ("download", "resize", "backbone", "train", "finetune16s", "finetune8s", "evaluate", "report")
TRACKED = STAGES[3:]
VICTIMS = ("group", "group", "stage", "dvc")  # half of the kills take everything, as a power cut does
A_ROUND = 56  # kills in one checkout: each begins without a store, so that its creation gets its share too
PATIENCE = 120  # tries of `dvc repro` while an orphan works on
LONG = {  # enough steps to be killed in, with a state saved at each
    "train.iterations": 40,
    "train.validate_every": 10,
    "finetune.fcn16s.iterations": 30,
    "finetune.fcn16s.validate_every": 10,
    "finetune.fcn8s.iterations": 30,
    "finetune.fcn8s.validate_every": 10,
}
WENT_ON, BEGAN_AGAIN, REFUSED = "went on where it was", "began again", "refused while the orphan lived"
NOTHING, SILENT, CUT = "was done already", "killed again before it said", "dvc.lock was truncated"
OUTCOMES = {  # column of the table by recorded outcome
    WENT_ON: "resumed",
    BEGAN_AGAIN: "restarted",
    REFUSED: "blocked by the running stage",
    NOTHING: "already finished",
    SILENT: "killed again before any output",
    CUT: "dvc.lock was truncated",
}
# DVC writes these in place; what DVC or a stage prints when a kill has truncated one.
IN_PLACE = {
    "'./dvc.lock' validation failed": "dvc.lock",
    "unable to read: 'dvc.lock'": "dvc.lock",
    "it was restored from its backup": "",
    "Unable to read RWLock-file": ".dvc/tmp/rwlock",
}
AT_WORK = ("is writing", "is busy")  # one line of ours, and DVC's own


@dataclass(frozen=True)
class Kill:
    """What is planned: of which stage, at which share of its duration, or in which of MLflow's writes, and whom."""

    stage: str
    moment: float
    write: int  # 0, or the number of the write transaction
    victim: str


@dataclass
class Killed:
    """What happened: the stage that was meant, where the kill came ("dvc itself" before or after a stage's own
    process), and what the next run said."""

    meant: str
    place: str
    victim: str
    in_write: bool
    seconds: float
    outcome: str = ""


@dataclass
class Repro:
    """A running `dvc repro` in a session of its own; `stage` is the one that it runs, since `began`."""

    checkout: Checkout
    target: str = ""
    printed: list[str] = field(default_factory=list)
    stage: str = ""
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            ["dvc", "repro", *filter(None, [self.target])],
            cwd=self.checkout.folder,
            env=self.checkout.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:  # an orphan may still write there when its DVC is long dead
            for line in lines:
                self.printed.append(line)
                if found := re.match(r"Running stage '(\w+)':", line):
                    self.stage, self.began = found[1], time.monotonic()

    def worker(self) -> psutil.Process | None:
        """The process of the stage that runs now."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                words = child.cmdline()
                if words[1:2] == ["-m"] and words[2].startswith("stages."):
                    return child
        return None

    def kill(self, victim: str) -> str:
        """SIGKILL; returns the stage that was hit, if one ran."""
        worker = self.worker()
        place = self.stage if worker else "dvc itself"
        if victim == "stage" and worker:
            worker.kill()
        elif victim == "dvc":
            self.process.kill()
        else:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return place


def prepare(folder: Path) -> Checkout:
    """A checkout whose rungs save their state at every step, so that a kill finds one to go on from."""
    folder.mkdir()
    checkout = Checkout(folder)
    checkout.set(**LONG)
    path = folder / "fcn" / "rungs" / "checkpoint.py"
    often, count = re.subn(r"(?m)^SAVE_EVERY = [\d.]+", "SAVE_EVERY = 0.0", path.read_text())
    assert count == 1, "fcn/rungs/checkpoint.py has no SAVE_EVERY"
    path.write_text(often)
    checkout.commit()
    return checkout


def another(pristine: Checkout, name: str) -> Checkout:
    """A copy of a checkout, independent of later changes in the working tree."""
    folder = pristine.folder.with_name(name)
    folder.mkdir()
    return Checkout(folder, pristine)


def undisturbed(checkout: Checkout) -> dict[str, float]:
    """Runs the pipeline once without kills; returns the seconds that each stage took."""
    repro = Repro(checkout)
    seen: dict[str, float] = {}
    while repro.process.poll() is None:
        if repro.stage:
            seen.setdefault(repro.stage, repro.began)
        time.sleep(0.02)
    assert repro.process.returncode == 0, "".join(repro.printed)
    ends = [*list(seen.values())[1:], time.monotonic()]
    return {stage: end - began for (stage, began), end in zip(seen.items(), ends, strict=True)}


def plan(shares: Counter[str], rng: random.Random) -> list[Kill]:
    """A round's kills, in the pipeline's order, drawn from what is left of each stage's share."""
    stages = list(shares.elements())
    rng.shuffle(stages)
    found = []
    for stage in stages[:A_ROUND]:
        write = rng.choice((0, 0, 0, rng.randint(1, 25))) if stage in TRACKED else 0
        found.append(Kill(stage, rng.random(), write, rng.choice(VICTIMS)))
    # Early moments first: one that comes too late, because the stage was faster this time, ends the stage's turn.
    return sorted(found, key=lambda kill: (STAGES.index(kill.stage), kill.moment))


def disturb(checkout: Checkout, kills: list[Kill], durations: dict[str, float], target: str = "") -> Iterator[Killed]:
    """Kills as planned, then lets the pipeline end; a kill whose stage was through before its moment is left out."""
    todo = list(kills)
    last: Killed | None = None
    tries = 0
    while True:
        repro = Repro(checkout, target)
        hit = next_kill(repro, todo, durations)
        repro.listener.join(None if repro.process.returncode == 0 else 0.5)  # for the last lines to come through
        if last and not last.outcome:
            last.outcome = outcome(repro, last.place, hit is not None)
        if hit:
            yield hit
            last, tries = hit, 0
        elif repro.process.returncode == 0:
            return
        elif cut := [file for words, file in IN_PLACE.items() if words in "".join(repro.printed)]:
            repair(checkout, cut[0])
        elif tries < PATIENCE and any(words in line for line in repro.printed for words in AT_WORK):
            time.sleep(1)
            tries += 1
        else:
            raise AssertionError(f"dvc repro does not end well after {last}:\n{''.join(repro.printed)}")


def repair(checkout: Checkout, cut: str) -> None:
    """What a user does about a truncated file: `fcn check`, or, where no copy was kept yet, delete it."""
    if cut == "dvc.lock":
        subprocess.run(["fcn", "check"], cwd=checkout.folder, env=checkout.environment(), check=False)
    whole = cut == "dvc.lock" and dvc_lock.stages((checkout.folder / cut).read_bytes()) is not None
    if cut and not whole:
        (checkout.folder / cut).unlink()


def next_kill(repro: Repro, todo: list[Kill], durations: dict[str, float]) -> Killed | None:
    """Waits for the next kill's moment, takes it from the plan, and kills; None if `dvc repro` ended before."""
    journal = repro.checkout.folder / "mlflow.db-journal"
    writes, writing = 0, False
    while repro.process.poll() is None:
        here = STAGES.index(repro.stage) if repro.stage else -1
        while todo and STAGES.index(todo[0].stage) < here:
            todo.pop(0)  # missed
        if todo and STAGES.index(todo[0].stage) == here:
            kill, seconds = todo[0], time.monotonic() - repro.began
            if kill.write:
                was, writing = writing, journal.exists()
                writes += writing and not was
                due = writes >= kill.write
            else:
                due = seconds >= kill.moment * durations[kill.stage]
            if due:
                todo.pop(0)
                place = repro.kill(kill.victim)
                return Killed(kill.stage, place, kill.victim, bool(kill.write), round(seconds, 3))
        time.sleep(0.0005 if todo and todo[0].write else 0.01)
    return None


def outcome(repro: Repro, place: str, killed: bool) -> str:
    """What the `dvc repro` after a kill made of it."""
    said = "".join(repro.printed)
    if "resuming from step" in said:
        return WENT_ON
    if any(words in said for words in AT_WORK):
        return REFUSED
    if any(words in said for words in IN_PLACE):
        return CUT
    first = re.search(r"Running stage '(\w+)':", said)
    if not first or (killed and first[1] == repro.stage and place in TRACKED[:3]):
        return SILENT if killed else NOTHING
    return BEGAN_AGAIN if first[1] == place else NOTHING


def differences(ours: Checkout, reference: Checkout, expected: tuple[str, ...] = STAGES) -> list[str]:
    """What is not as it should be in the end, when these stages were to run."""
    from mlflow import MlflowClient

    lock, other = (yaml.safe_load(checkout.read("dvc.lock"))["stages"] for checkout in (ours, reference))
    found = [f"{stage} differs in dvc.lock" for stage in expected if lock.get(stage) != other[stage]]
    if expected == STAGES and ours.read("dvc.lock") != reference.read("dvc.lock"):
        found.append("dvc.lock differs")
    for out in [Path(out["path"]) for stage in expected for out in other[stage]["outs"]]:
        if not (ours.folder / out).exists() or files.sha256(ours.folder / out) != files.sha256(reference.folder / out):
            found.append(f"{out} differs")
    store = MlflowClient(f"sqlite:///{ours.folder}/mlflow.db")
    experiment = store.get_experiment_by_name("fcn")
    runs = store.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
    rows = [run.info.status for run in runs if "mlflow.parentRunId" not in run.data.tags]
    stages = [f"{run.data.tags['stage']} {run.info.status}" for run in runs if "stage" in run.data.tags]
    if rows != ["FINISHED" if expected == STAGES else "RUNNING"]:  # a row ends with its report
        found.append(f"MLflow has the rows {rows}")
    if sorted(stages) != sorted(f"{stage} FINISHED" for stage in set(TRACKED) & set(expected)):
        found.append(f"MLflow has the runs {sorted(stages)}")
    kept = [p for p in ours.folder.rglob(".*.tmp") if ".git" not in p.parts]
    # A finished state lasts until the stage after it begins.
    states = list((ours.folder / ".fcn" / "states").glob("*")) if expected == STAGES else []
    found += [f"{p.relative_to(ours.folder)} was left" for p in (*kept, *states)]
    return found + [f"process {p.pid} was left: {' '.join(p.cmdline())[:200]}" for p in outliving(ours.folder)]


def outliving(folder: Path, patience: float = 20) -> list[psutil.Process]:
    """Processes that work in a checkout though `dvc repro` is through."""
    deadline = time.monotonic() + patience
    while True:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def torture(
    kills: int, seed: int, folder: Path, say: Callable[[str], None], before: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Round after round; after each, what came of all so far. `before` is that of an earlier call in this folder."""
    before = before or {"minutes": 0.0, "rounds": 0, "differences": [], "each": []}
    began = time.monotonic()
    if before["rounds"]:
        pristine, reference = (Checkout.opened(folder / name) for name in ("pristine", "undisturbed"))
        durations: dict[str, float] = before["seconds undisturbed"]
    else:
        pristine = prepare(folder / "pristine")
        reference = another(pristine, "undisturbed")
        durations = undisturbed(reference)
    say("undisturbed: " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in durations.items()))
    hits = [Killed(**hit) for hit in before["each"]]
    found: list[str] = before["differences"]
    shares = Counter(STAGES[i % len(STAGES)] for i in range(kills))
    shares.subtract(hit.meant for hit in hits)
    for number in itertools.count(before["rounds"] + 1):
        checkout = another(pristine, f"round{number}")
        for hit in disturb(checkout, plan(shares, random.Random(f"{seed} {number}")), durations):
            hits.append(hit)
            shares[hit.meant] -= 1
            say(f"{len(hits):4} {hit.place:12} {hit.victim:6} {hit.seconds:6.2f} s{' in a write' * hit.in_write}")
        wrong = differences(checkout, reference)
        say(f"round {number}: {'; '.join(wrong) or 'identical to the undisturbed run'}")
        found += [f"round {number}: {line}" for line in wrong]
        yield stamp("dvc", "mlflow", "torch") | {
            "kills": len(hits),
            "seed": seed,
            "rounds": number,
            "minutes": round(before["minutes"] + (time.monotonic() - began) / 60, 1),
            "seconds undisturbed": {stage: round(seconds, 1) for stage, seconds in durations.items()},
            "differences": found,
            "each": [asdict(hit) for hit in hits],
        }
        if len(hits) >= kills:
            return


def table(result: dict[str, Any]) -> str:
    """Kills by place and by what the next `dvc repro` did, as Markdown."""
    places = [*STAGES, "dvc itself"]
    lines = [
        "| killed in | kills | all processes | the stage alone | DVC alone | in a write of MLflow's | "
        + " | ".join(OUTCOMES.values())
        + " |",
        "|---|" + "---:|" * (5 + len(OUTCOMES)),
    ]
    for place in [*places, "all"]:
        rows = [hit for hit in result["each"] if place in ("all", hit["place"])]
        counts = [
            len(rows),
            *(sum(hit["victim"] == victim for hit in rows) for victim in ("group", "stage", "dvc")),
            sum(hit["in_write"] for hit in rows),
            *(sum(hit["outcome"] == word for hit in rows) for word in OUTCOMES),
        ]
        lines.append(f"| {place} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "torture.json")
    parser.add_argument("--folder", type=Path, help="a folder for the checkouts, kept; else a temporary one")
    parser.add_argument("--more", action="store_true", help="go on with the kills of --json, in their --folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads(arguments.json.read_text()) if arguments.more else None
        for result in torture(arguments.kills, arguments.seed, folder, lambda line: print(line, flush=True), before):
            files.write_text(arguments.json, json.dumps(result, indent=1) + "\n")
    print(f"\n{table(result)}\n\n{result['kills']} kills in {result['rounds']} rounds, {result['minutes']} minutes")
    if result["differences"]:
        raise SystemExit("not as undisturbed: " + "; ".join(result["differences"]))


if __name__ == "__main__":
    main()
