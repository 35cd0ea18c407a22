"""`fcn paper`: runs the experiments of the findings and writes the page about them."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from fcn.paper import members, page
from fcn.paper.members import Members
from fcn.paper.scales import SCALES, Scale
from fcn.runtime.errors import UserError, counted


def chosen(name: str, only: Sequence[str]) -> Scale:
    """The scale of this name.

    raises   UserError if it does not have a finding that `only` names
    """
    scale = SCALES[name]()
    known = [finding.name for finding in scale.findings()]
    if unknown := [one for one in only if one not in known]:
        raise UserError(f"--only {unknown[0]}: the scale {name} has {', '.join(known)}")
    return scale


def show(name: str, only: Sequence[str], seeds: int) -> None:
    """Prints the experiments of a scale and an estimate of their time."""
    scale = chosen(name, only)
    findings = scale.findings(only)
    print(f"{name}: {scale.words}")
    for finding in findings:
        print(f"{finding.name}: {', '.join(dict.fromkeys(row.variant for row in finding.rows))}")
    print()
    for line in members.describe(scale, Members.plan(scale, findings, seeds)):
        print(line)


def run(name: str, only: Sequence[str], seeds: int, jobs: int) -> None:
    """Runs the experiments that are not finished, and writes the page on all findings whose experiments are.

    raises   UserError if one of them failed; KeyboardInterrupt after Ctrl-C, with a line on how to go on
    """
    scale = chosen(name, only)
    planned = Members.plan(scale, scale.findings(only), seeds)
    print(f"{planned.name}: {counted(len(planned.all), 'experiment')}, {jobs} at a time", flush=True)
    try:
        failed = planned.run(jobs)
    except KeyboardInterrupt:
        words = ["fcn", "paper", "--scale", name, *(word for one in only for word in ("--only", one))]
        words += ["--seeds", str(seeds), "--jobs", str(jobs)]
        print(f"stopped; `{shlex.join(words)}` goes on", flush=True)
        raise
    for path in write(scale, seeds):
        print(f"wrote {path}")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(planned.all)} experiments failed; see above, then run the command again"
        )


def write(scale: Scale, seeds: int) -> list[Path]:
    """Writes the page on all findings of a scale whose experiments are finished."""
    from fcn.paper import measured

    findings = scale.findings()
    results = Members.plan(scale, findings, seeds).results()
    sections = [page.section(scale, finding, results) for finding in findings]
    extra = [measured.bounds(seeds), measured.times(next(iter(scale.variants.values())).params())]
    return page.write(page.content(scale, seeds, sections, extra))
