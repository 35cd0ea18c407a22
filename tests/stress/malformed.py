"""Thousands of malformed files, from valid ones by seeded mutation: each refused in one line, or read correctly.

`make malformed FILES=10000 SEED=1`. No crash, no more than 5 s of computing and 1 GB of memory for a file,
nothing written outside: the limits are the kernel's, set for this process. The exit status says whether they held.
"""

import argparse
import json
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from .stamp import stamp
from .targets import FINDINGS, ROOT, TARGETS, answer

SECONDS, BYTES = 5, 1 << 30
NUMBERS = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff" * 8, b"-1", b"1e999", b"nan")


def mutate(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """One to four changes: bits, bytes, lengths, cuts, repetitions, parts of other files."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(found) + 1)
        size = min(rng.choice((1, 2, 4, 16, 256)), len(found) - at)
        kind = rng.randrange(8)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            number = rng.choice(NUMBERS)
            found[at : at + len(number)] = number
        elif kind == 3:
            del found[at:]
        elif kind == 4:
            del found[at : at + size]
        elif kind == 5:
            found[at:at] = found[at : at + size] * rng.choice((1, 2, 50))
        elif kind == 6:
            other = rng.choice(others)
            found[at : at + size] = other[at : at + size]
        else:
            found[at:at] = rng.randbytes(size)
    return bytes(found)


class Late(BaseException):
    """No reader may take it for a broken file."""


def late(number: int, frame: FrameType | None) -> None:
    raise Late(f"more than {SECONDS} s of computing")


def mutate_all(count: int, seed: int, only: str | None = None) -> dict[str, Any]:
    """Mutated files for every target in turn, and what became of them.

    returns  by target: how many were refused and read, the slowest in seconds; the findings with their file
    """
    rng = random.Random(seed)
    names = [only] if only else list(TARGETS)
    seeds = {name: list(TARGETS[name].seeds().values()) for name in names}
    for name in names:
        for content in seeds[name]:
            assert answer(TARGETS[name], content) == "", f"a valid file for {name} is refused"
    tally: dict[str, Counter[str]] = {name: Counter() for name in names}
    slowest = dict.fromkeys(names, 0.0)
    findings: list[str] = []
    before = signal.signal(signal.SIGPROF, late)
    try:
        for number in range(count):
            name = names[number % len(names)]
            content = mutate(rng.choice(seeds[name]), rng, seeds[name])
            began = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                tally[name]["refused" if answer(TARGETS[name], content) else "read"] += 1
            except (Exception, Late) as error:
                FINDINGS.mkdir(parents=True, exist_ok=True)
                kept = FINDINGS / f"{name}-{seed}-{number}"
                kept.write_bytes(content)
                where = traceback.extract_tb(error.__traceback__)[-1]
                findings.append(f"{name} {number}: {error!r} at {where.name}:{where.lineno}, file {kept}")
                tally[name]["finding"] += 1
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            slowest[name] = max(slowest[name], time.process_time() - began)
    finally:
        signal.signal(signal.SIGPROF, before)
    return {
        "files": count,
        "seed": seed,
        "targets": {name: {**tally[name], "slowest s": round(slowest[name], 2)} for name in names},
        "findings": findings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "malformed.json")
    arguments = parser.parse_args()
    mutate_all(0, 0, arguments.only)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, resource.RLIM_INFINITY))
    result = mutate_all(arguments.files, arguments.seed, arguments.only)
    result["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(stamp() | result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(bool(result["findings"]))


if __name__ == "__main__":
    main()
