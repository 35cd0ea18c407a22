"""Coverage-guided fuzzing with atheris, which `make fuzz` puts into `.fuzz`, a folder of its own.

`make fuzz SECONDS_EACH=600`: every target for 600 s, one after the other, from the same valid files as
`make malformed`. Executions, coverage and findings go to benchmarks/results/fuzz.json; the exit
status says whether there was a finding. A finding's file is kept in `.fuzz/findings/`.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .stamp import stamp

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".fuzz"
FUZZED = ("params", "packed", "metadata", "resume", "caffemodel", "mask", "image", "archive", "folder", "commit")
MEGABYTES = 3072  # of the whole process, torch included
ROUND = 200  # seconds until a fresh process goes on: atheris keeps 40 KB of what it compared at every execution
SECONDS = 60  # for one file, by the clock: on a busy machine a sound one may have to wait. `make malformed` is stricter


def inside(name: str, arguments: list[str]) -> None:
    """libFuzzer's own process: it never returns."""
    sys.path.insert(0, str(FOLDER))
    import atheris

    with atheris.instrument_imports(include=["fcn", "PIL", "yaml"]):
        from PIL import Image

        Image.init()  # imports the readers of all formats, which it otherwise does when it meets one
        from . import targets
    target = targets.TARGETS[name]
    atheris.Setup([sys.argv[0], *arguments], lambda content: targets.answer(target, content) and None)
    atheris.Fuzz()


def fuzz(name: str, seconds: int) -> dict[str, Any]:
    """One target in a process of its own, or several one after the other, and what libFuzzer says at their ends."""
    from .targets import FINDINGS, MEMORY, TARGETS

    FINDINGS.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    executions = edges = status = 0
    kept: list[str] = []
    with tempfile.TemporaryDirectory(dir=MEMORY) as temporary:
        corpus = Path(temporary) / "corpus"
        corpus.mkdir()
        for i, content in enumerate(TARGETS[name].seeds().values()):
            (corpus / f"seed{i}").write_bytes(content)
        for left in range(seconds, 0, -ROUND):
            done = subprocess.run(
                [
                    *(sys.executable, "-W", "ignore", "-m", "stress.fuzz", "--inside", name, str(corpus)),
                    *(f"-max_total_time={min(left, ROUND)}", f"-timeout={SECONDS}", f"-report_slow_units={SECONDS}"),
                    *(f"-rss_limit_mb={MEGABYTES}", "-max_len=20000", "-print_final_stats=1"),
                    f"-artifact_prefix={FINDINGS}/{name}-",
                ],
                cwd=ROOT,
                env=os.environ | {"TMPDIR": temporary},  # libFuzzer ends without cleaning up
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
            executed = re.findall(r"number_of_executed_units: (\d+)", done.stdout)
            executions += int((executed or re.findall(r"(?m)^#(\d+)", done.stdout) or [0])[-1])
            edges = max([edges, *map(int, re.findall(r"cov: (\d+)", done.stdout))])
            kept += re.findall(r"Test unit written to (\S+)", done.stdout)
            if status := done.returncode:
                print(done.stdout[-3000:], flush=True)
                break
    return {
        "date": datetime.date.today().isoformat(),
        "seconds": round(time.monotonic() - began),
        "executions": executions,
        "edges": edges,
        "ended with": status,
        "findings": [Path(path).name for path in kept],
    }


def main() -> None:
    if "--inside" in sys.argv:
        at = sys.argv.index("--inside")
        return inside(sys.argv[at + 1], sys.argv[at + 2 :])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--only", choices=FUZZED, nargs="+", default=FUZZED)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "fuzz.json")
    arguments = parser.parse_args()
    known = json.loads(arguments.json.read_text())["targets"] if arguments.json.is_file() else {}
    result: dict[str, Any] = stamp("torch") | {"targets": known}
    for name in arguments.only:
        result["targets"][name] = fuzz(name, arguments.seconds)
        print(name, json.dumps(result["targets"][name]), flush=True)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(any(result["targets"][name]["ended with"] for name in arguments.only))


if __name__ == "__main__":
    main()
