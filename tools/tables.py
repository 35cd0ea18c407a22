"""Generates the tables of README.md and docs/ from recipes/*.results.json and benchmarks/results/: `make readme`."""

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stress import torture

from fcn import params
from fcn.evaluation import paper
from fcn.ladder import LADDER, NETS, SCORES

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("recipes", "reliability", "speed"))]
RESULTS = ROOT / "benchmarks" / "results"


def rows(*lines: list[object]) -> str:
    """A Markdown table; columns of numbers are right-aligned."""
    heads, *rest = ([str(cell) for cell in line] for line in lines)
    rule = ["---:" if re.fullmatch(r"[\d.,]*", cell) else "---" for cell in rest[0]]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *rest))


def where(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return f"{result['date']}, {machine['cores']} cores ({machine['cpu']}), Python {machine['python']}"


def kills(result: dict[str, Any]) -> str:
    wrong = "; ".join(result["differences"]) or "none"
    return (
        f"{torture.table(result)}\n\n{result['kills']} kills in {result['rounds']} rounds, seed {result['seed']}, "
        f"{result['minutes']:.0f} minutes. Differences from the uninterrupted run: {wrong}. {where(result)}."
    )


def disk(result: dict[str, Any]) -> str:
    kinds = {
        "refused in one line": "stopped with one line",
        "finished, MLflow or a resume state without room": "finished, with a warning",
    }
    lines = [
        [stage, found["tried"], *(found.get(kind, 0) for kind in kinds)] for stage, found in result["stages"].items()
    ]
    wrong = "; ".join(result["wrong"]) or "none"
    return f"{rows(['stage', 'cases', *kinds.values()], *lines)}\n\nFailures: {wrong}. {where(result)}."


def damaged(result: dict[str, Any]) -> str:
    lines = [
        [name, found["refused"], found["read"], found.get("finding", 0), f"{found['slowest s']:.2f}"]
        for name, found in result["targets"].items()
    ]
    heads: list[object] = ["file", "rejected in one line", "read", "findings", "slowest, CPU s"]
    return (
        f"{rows(heads, *lines)}\n\n{result['files']:,} files, seed {result['seed']}, "
        f"at most {result['peak MB']} MB. {where(result)}."
    )


def fuzzed(result: dict[str, Any]) -> str:
    lines = [
        [name, found["date"], found["seconds"], f"{found['executions']:,}", found["edges"], len(found["findings"])]
        for name, found in result["targets"].items()
    ]
    heads: list[object] = ["reader", "date", "seconds", "executions", "edges covered", "findings"]
    return f"{rows(heads, *lines)}\n\n{where(result)}."


def steps(result: dict[str, Any]) -> str:
    lines: list[list[object]] = []
    for case, row in result["cases"].items():
        height, width, classes = case.split("x")
        for what, title in (("train", "step"), ("predict", "prediction")):
            found, peer = row[what], f"{row[what]['torchfcn']['seconds']:.2f}"
            for side in ("fp32", "bf16"):
                cell = found[side]
                lines.append(
                    [
                        *(f"{height}×{width}, {classes} classes", title, side, peer, f"{cell['seconds']:.2f}"),
                        *(f"{cell['ratio']:.1f}", f"{cell['gflops']:.0f}", f"{100 * cell['share_of_limit']:.0f}"),
                    ]
                )
    heads: list[object] = ["", "", "precision", "torchfcn, s", "ours, s", "ratio", "GFLOP/s", "% of limit"]
    memory = [
        [case, *(f"{row['memory'][side]:.2f}" for side in ("torchfcn", "fp32", "bf16"))]
        for case, row in result["cases"].items()
    ]
    more = rows(["peak memory of training, GB", "torchfcn", "fp32", "bf16"], *memory)
    how = f"{result['rounds']} rounds; {where(result)}, torch {result['versions']['torch']}."
    return f"{rows(heads, *lines)}\n\n{more}\n\n{how}"


def input_path(result: dict[str, Any]) -> str:
    few, many = result["memory_mib"].items()
    return (
        f"{result['what']}: {result['images_per_second']} images/s. A single core decodes "
        f"{result['decoded_per_second_by_one_core']} images/s, or writes {result['written_per_second_by_one_core']}; "
        f"the stage reaches {result['share_of_the_limit']:.0%} of the limit that both set for all cores. "
        f"Memory of all processes: {few[1]} MiB for {few[0]} images, {many[1]} MiB for {many[0]}. {where(result)}."
    )


def summary() -> str:
    """Mean IU of each recipe that was run or has published scores: paper, reference and ours, in per cent."""
    lines: list[list[object]] = []
    for path in sorted((ROOT / "recipes").glob("*.yaml"), key=lambda path: (not recorded(path.stem), path.stem)):
        experiment, ours = params.load(path), recorded(path.stem).get("scores", {})
        rungs = {net.name: experiment.rung(net.stride) for net in LADDER}
        scored = [net for net, rung in rungs.items() if rung.iterations or rung.init != "parent"]
        known = {net: row for net, row in paper.beside(experiment).items() if net in scored}
        if known or ours:
            command = "make repro" if path.stem == "scenes" else f"fcn recipe {path.stem} && dvc repro"
            lines.append(
                [
                    path.stem,
                    triple({net: row.paper[2] for net, row in known.items() if row.paper}),
                    triple({net: row.reference[2] for net, row in known.items() if row.reference}),
                    triple({net: 100 * row["mean_iu"] for net, row in ours.items()}) if ours else "not run here",
                    f"`{command}`",
                ]
            )
    heads: list[object] = ["mean IU of FCN-32s / 16s / 8s, %", "paper", "reference", "ours", "command"]
    scenes, camvid = recorded("scenes"), recorded("camvid")
    where = f"{scenes['machine']['cores']} cores ({scenes['machine']['cpu']}), no GPU, {scenes['date']}"
    minutes = f"scenes takes {scenes['minutes']:.0f} minutes, camvid {camvid['minutes']:.0f}"
    return (
        f"{rows(heads, *lines)}\n\nOurs: {where}; {minutes}.\n"
        "Most recipes that were not run here need days on a CPU; their data readers are tested on small archives in\n"
        "the original formats."
    )


def triple(values: dict[str, float]) -> str:
    """The value of each net, or a dash."""
    return " / ".join(f"{values[net]:.1f}" if net in values else "—" for net in NETS) if values else "—"


def recorded(recipe: str) -> dict[str, Any]:
    path = ROOT / "recipes" / f"{recipe}.results.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def scores(results: dict[str, Any]) -> str:
    """The four scores of a recorded recipe in per cent, with mean and standard deviation over the recorded seeds."""
    seeds = [run for change, run in results["variants"].items() if change.startswith("seed=")]
    runs = [results["scores"], *seeds]
    heads: list[object] = [results["recipe"], *SCORES.values(), *([f"mean IU, {len(runs)} seeds"] if seeds else [])]
    lines: list[list[object]] = []
    for net, row in results["scores"].items():
        values = [100 * run[net]["mean_iu"] for run in runs]
        spread = [f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"] if seeds else []
        lines.append([NETS[net], *(f"{100 * row[name]:.1f}" for name in SCORES), *spread])
    others = [
        f"With `{change}`: mean IU " + ", ".join(f"{NETS[net]} {100 * row['mean_iu']:.1f}" for net, row in run.items())
        for change, run in results["variants"].items()
        if not change.startswith("seed=")
    ]
    machine = results["machine"]
    how = (
        f"{results['minutes']:.0f} minutes on {machine['cores']} cores ({machine['cpu']}, {machine['device']}), "
        f"torch {results['versions']['torch']}, {results['date']}."
    )
    return "\n\n".join([rows(heads, *lines), *(f"{line}." for line in others), how])


def portable(result: dict[str, Any]) -> str:
    heads: list[object] = ["net", "arithmetic", *next(iter(result["cases"].values()))["portable"]]
    lines = [
        [case, arithmetic, *("equal" if equal else "differs" for equal in places.values())]
        for case, found in result["cases"].items()
        for arithmetic, places in found.items()
    ]
    used = {
        arithmetic: ", ".join(f"{name} ({count})" for name, count in names.items())
        for arithmetic, names in result["kernels"].items()
    }
    return (
        f"{rows(heads, *lines)}\n\noneDNN's kernels, with the number of calls, of the first net:\n\n"
        + "\n".join(f"- {arithmetic}: {names}" for arithmetic, names in used.items())
        + f"\n\nA portable step takes {result['step']['ratio']:.1f} times as long as a native one (slim net, 8 images "
        f"of 128×128, median of {len(result['step']['rounds'])} alternating rounds). {where(result)}."
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "torture": kills,
    "fulldisk": disk,
    "malformed": damaged,
    "fuzz": fuzzed,
    "step-cpu": steps,
    "resize": input_path,
    "portable": portable,
}


def filled(text: str) -> str:
    """The document with the tables between `<!-- NAME -->` and `<!-- end -->` generated from the results."""

    def table(match: re.Match[str]) -> str:
        if match[1] == "results":
            return f"<!-- results -->\n{summary()}\n<!-- end -->"
        if recipe := recorded(match[1].removeprefix("results-")):
            return f"<!-- {match[1]} -->\n{scores(recipe)}\n<!-- end -->"
        result = json.loads((RESULTS / f"{match[1]}.json").read_text())
        return f"<!-- {match[1]} -->\n{TABLES[match[1]](result)}\n<!-- end -->"

    return re.sub(r"<!-- ([\w-]+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    for page in DOCS:
        page.write_text(filled(page.read_text()))
