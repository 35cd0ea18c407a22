"""The page about the findings: their tables, verdicts in words and plots, as Markdown and as one HTML file."""

import base64
import datetime
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fcn.experiments.history import Snapshot
from fcn.ladder import NETS, SCORES
from fcn.paper import members, verdict
from fcn.paper.findings import Comparison, Finding
from fcn.paper.scales import Scale
from fcn.runtime import machine

SCORE = "mean_iu"  # that the paper reports everywhere and the verdicts are about
PLACES = {"page": Path("metrics/paper.html"), "markdown": Path("docs/paper.md"), "plots": Path("docs/paper")}


@dataclass(frozen=True)
class Section:
    """A finding with its results.

    header    of the table
    rows      of the table, as text
    plotted   mean IU of each seed in per cent, by row; another quantity if `axis` says so
    words     one sentence for each comparison
    """

    name: str
    title: str
    claim: str
    header: list[str]
    rows: list[list[str]]
    plotted: dict[str, list[float]]
    words: list[str]
    note: str
    source: str
    axis: str = "mean IU on the evaluation split, per cent"


def section(scale: Scale, finding: Finding, results: dict[str, list[Snapshot]]) -> Section | None:
    """A finding's section; None if one of its variants is not finished."""
    if not all(row.variant in results for row in finding.rows):
        return None
    has_paper = any(row.paper is not None for row in finding.rows)
    header = ["", *SCORES.values()]
    header += [f"mean IU of {' and '.join(finding.classes)}"] if finding.classes else []
    header += ["published: mean IU"] if has_paper else []
    rows, plotted = [], {}
    for row in finding.rows:
        states, net = results[row.variant], scale.net_of(row)
        columns = [members.values(states, net, row, score) for score in SCORES]
        plotted[row.label] = members.values(states, net, row, SCORE)
        columns += [members.class_values(states, net, finding.classes)] if finding.classes else []
        cells = [spread(values) for values in columns]
        rows.append([row.label, *cells, *(["—" if row.paper is None else f"{row.paper:.1f}"] if has_paper else [])])
    words = [sentence(one, plotted) for one in finding.comparisons]
    nets = sorted({scale.net_of(row) for row in finding.rows}, key=list(NETS).index)
    note = " ".join(filter(None, [finding.note, f"Nets: {', '.join(NETS[net] for net in nets)}."]))
    return Section(finding.name, finding.title, finding.claim, header, rows, plotted, words, note, finding.source)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def sentence(comparison: Comparison, plotted: dict[str, list[float]]) -> str:
    """What the scores say of a comparison's claim, with the interval."""
    first, second = plotted[comparison.first], plotted[comparison.second]
    found = verdict.difference(first, second)
    numbers = f"difference {found.mean:+.1f}, interval {found.low:+.1f} to {found.high:+.1f}"
    side = "higher" if found.mean > 0 else "lower"
    claim = "the claim of no difference does not hold here" if comparison.expected == "same" else "without a claim"
    what = {
        "holds": "the claim holds here: higher",
        "reversed": "the claim is reversed here: lower",
        "consistent": "consistent with the claim of no difference",
        "different": f"{claim}: {side}",
        "not distinguishable": f"not distinguishable with {len(first)} values each",
    }[found.judge(comparison.expected)]
    return f"{comparison.first} against {comparison.second}: {what} ({numbers})."


@dataclass(frozen=True)
class Content:
    """Everything on the page.

    missing   titles of findings of the scale without finished experiments
    """

    scale: Scale
    seeds: int
    sections: list[Section]
    missing: list[str]
    facts: dict[str, str]


def content(scale: Scale, seeds: int, found: Sequence[Section | None], measured: Sequence[Section]) -> Content:
    done = [one for one in found if one]
    missing = [finding.title for finding, one in zip(scale.findings(), found, strict=True) if one is None]
    here = machine.facts()
    words = f"{here['cpu']}, {here['cores']} cores, {here['device']}"
    facts = {"machine": words, "written": datetime.date.today().isoformat()}
    return Content(scale, seeds, [*done, *measured], missing, facts)


def write(page: Content) -> list[Path]:
    """Writes the HTML page, the Markdown page and its plots.

    returns   the two pages
    """
    from fcn.paper import plot
    from fcn.runtime import files

    folder = PLACES["plots"]
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for one in page.sections:
        path = folder / f"{one.name}.png"
        plot.dots(one.plotted, path, one.axis)
        pictures[one.name] = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    for path in folder.glob("*.png"):
        if path.stem not in pictures:
            path.unlink()
    files.write_text(PLACES["page"], _rendered("page.html", page, pictures))
    files.write_text(PLACES["markdown"], _rendered("page.md.jinja", page, {}))
    return [PLACES["page"], PLACES["markdown"]]


def _rendered(template: str, page: Content, pictures: dict[str, str]) -> str:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template(template).render(page=page, pictures=pictures, rule=RULE)


RULE = (
    "A difference of mean IU is given with Welch's 95 % interval over the seeds. A claim that one is higher holds if "
    "the interval is above 0 and is reversed if it is below 0; otherwise the two are not distinguishable with so few "
    "seeds. A claim of no difference is consistent with an interval that contains 0, which does not prove it: the "
    "interval says how large a difference can be missed. Intervals are not corrected for the number of comparisons."
)
