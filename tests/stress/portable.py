"""Whether `arithmetic: portable` gives the same bits on other CPUs, and what it costs: `make portable`.

Small nets are trained here by `dvc repro`. `fcn verify` then repeats their first steps on one core, and on CPUs that
QEMU emulates: other vendors, other sizes of caches, no AVX-512. QEMU computes in software, exactly as IEEE 754 says.
With `arithmetic: native` the same comparison has to fail somewhere, or it would show nothing.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

QEMU = "QEMU, "
EMULATED = ("Haswell", "Skylake-Client", "EPYC-Rome")
# VGG16 is left out: a comparison of its 134 million weights takes QEMU a minute or more each.
CASES: dict[str, dict[str, Any]] = {
    "slim, Adam": {},
    "slim_googlenet, SGD": {"model.backbone": "slim_googlenet", "optimizer": "sgd"},
    "slim_alexnet, learned upsampling": {"model.backbone": "slim_alexnet", "model.upsampling": "learned"},
}
STEPS = 20  # timed
TIMED = f"""
import sys
from pathlib import Path
from fcn import params
from fcn.runtime import machine
experiment = params.load()
machine.prepare(experiment.arithmetic)
from itertools import islice
from time import perf_counter
from fcn.data.split import Split
from fcn.rungs import rung
from fcn.rungs.initialization import initialize
train = Split(Path("data/resized"), "train")
backbone, published = Path("data/weights/backbone.safetensors"), Path("data/weights/published/fcn32s")
training = rung.prepare(32, experiment, initialize(train, 32, experiment, backbone, published), train)
times = []
before = perf_counter()
for step in islice(training.steps(0), {STEPS}):
    float(step.loss)
    times.append(perf_counter() - before)
    before = perf_counter()
print(sorted(times)[{STEPS} // 2])
"""


def run(folder: Path, *command: str, fails: str = "nothing", **environment: str) -> tuple[bool, str]:
    """Whether a command succeeded, and what it printed.

    fails   expression for what it prints if it may fail

    Real processes: those of tests/forks.py have imported torch before the stage starts.
    """
    from conftest import Checkout

    done = subprocess.run(
        command,
        cwd=folder,
        env=Checkout.opened(folder).environment(**environment) | {"PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode and not re.search(fails, done.stdout):
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}")
    return done.returncode == 0, done.stdout


def trained(folder: Path, **changes: Any) -> Path:
    """A checkout with small nets, trained."""
    from conftest import Checkout

    folder.mkdir(parents=True)
    Checkout(folder).set(**changes)
    run(folder, "dvc", "repro", "finetune8s")
    return folder


def same(folder: Path, *prefix: str) -> bool:
    """Whether `fcn verify`, its command after `prefix`, finds the recorded digests."""
    other = "error: .* (round differently|which changes bits)"
    equal, printed = run(folder, *prefix, sys.executable, "-m", "fcn", "verify", "--steps", "1", fails=other)
    assert not equal or "as recorded" in printed
    return equal


def kernels(folder: Path) -> dict[str, int]:
    """Number of oneDNN's calls in `fcn verify` by the implementation that it chose."""
    _, printed = run(folder, sys.executable, "-m", "fcn", "verify", "--steps", "1", ONEDNN_VERBOSE="1")
    return dict(Counter(re.findall(r"^onednn_verbose,.*?,exec,cpu,\w+,([^,]+),", printed, re.MULTILINE)).most_common())


def places(emulated: list[str]) -> dict[str, list[str]]:
    """Words before a command that make it run elsewhere, by name."""
    affinity = {f"cores {cores}": ["taskset", "--cpu-list", cores] for cores in ("0", f"0-{(os.cpu_count() or 1) - 1}")}
    return affinity | {f"{QEMU}{cpu}": [str(shutil.which("qemu-x86_64")), "-cpu", cpu] for cpu in emulated}


def seconds(folder: Path) -> float:
    return float(run(folder, sys.executable, "-c", TIMED)[1].splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpus", nargs="+", default=EMULATED, help="as `qemu-x86_64 -cpu help` lists them")
    parser.add_argument("--rounds", type=int, default=5, help="of timing, alternating")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not shutil.which("qemu-x86_64"):
        parser.error("there is no qemu-x86_64; install the package qemu-user")
    from stress.stamp import stamp

    table: dict[str, dict[str, dict[str, bool]]] = {}
    chosen: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for case, changes in CASES.items():
            for arithmetic in ("portable", "native"):
                folder = trained(Path(temporary) / arithmetic / str(len(table)), arithmetic=arithmetic, **changes)
                rows = {place: same(folder, *words) for place, words in places(arguments.cpus).items()}
                table.setdefault(case, {})[arithmetic] = rows
                print(f"{case}, {arithmetic}:", rows, flush=True)
                if case == next(iter(CASES)):
                    chosen[arithmetic] = kernels(folder)
                shutil.rmtree(folder)
        size: dict[str, Any] = {
            "data.scenes.size": "128x128",
            "data.size.train": "128x128",
            "data.size.val": "128x128",
            "batch_size": 8,
            "train.iterations": STEPS,
            "finetune.fcn16s.iterations": 0,
            "finetune.fcn8s.iterations": 0,
        }
        timed = {
            arithmetic: trained(Path(temporary) / f"timed {arithmetic}", arithmetic=arithmetic, **size)
            for arithmetic in ("native", "portable")
        }
        rounds = [
            {arithmetic: seconds(folder) for arithmetic, folder in timed.items()} for _ in range(arguments.rounds)
        ]
    ratio = statistics.median(row["portable"] / row["native"] for row in rounds)
    print(f"a step takes {ratio:.2f} times as long")
    wrong = [
        f"{case} on {place}" for case, found in table.items() for place, equal in found["portable"].items() if not equal
    ]
    # Only other CPUs show what the instruction set does; one core computes with as many threads as two.
    emulated = [name for name in places(arguments.cpus) if name.startswith(QEMU)]
    if all(found["native"][name] for found in table.values() for name in emulated):
        wrong.append("native is equal on other CPUs too, so nothing is shown")
    wrong += [f"{name} was used" for name in chosen["portable"] if "avx512" in name]
    if arguments.json:
        result = {"cases": table, "kernels": chosen, "step": {"rounds": rounds, "ratio": ratio}, "wrong": wrong}
        arguments.json.write_text(json.dumps(stamp("torch", "numpy") | result, indent=1) + "\n")
    sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
