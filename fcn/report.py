"""The report of an experiment: what was run, how well it did, class by class, and what it looks like."""

import base64
import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fcn import files, weights
from fcn.params import Params
from fcn.titles import NETS, SCORES

PICTURES = {
    "predictions": "Validation images with truth and the prediction of each net",
    "curves": "Training loss and mean IU on val by step, for the three nets",
    "confusion_fcn8s": "Confusion matrix of FCN-8s",
    "confusion_fcn16s": "Confusion matrix of FCN-16s",
    "confusion_fcn32s": "Confusion matrix of FCN-32s",
    "samples": "Training images with their masks",
    "classes": "Share of pixels by class, in train and val",
}


@dataclass(frozen=True)
class Content:
    """scores   the four by net, None for a net that was neither trained nor published
    classes  IU by class (rows) and net (columns)
    facts    what was run, as pairs
    """

    title: str
    facts: dict[str, str]
    scores: dict[str, dict[str, float] | None]
    classes: pd.DataFrame


def gather(params: Params, metrics: Path, models: list[Path]) -> Content:
    """Everything that the report says, from params, metrics and model files."""
    scores: dict[str, Any] = json.loads((metrics / "scores.json").read_text())
    model = params.model
    facts = {
        "Data set": f"{params.data.dataset}, trained on {params.data.splits.train}, scored on {params.data.splits.val}",
        "Net": f"backbone {model.backbone} (weights: {model.weights}), pad {model.pad}, "
        f"upsampling {model.upsampling}, dropout {model.dropout:g}",
        "Optimiser": f"{params.optimizer}, lr {params.lr:g} on the {params.loss} loss, batch {params.batch_size}, "
        f"weight decay {params.weight_decay:g}, {params.precision}, seed {params.seed}",
    }
    for path in models:
        _, meta = weights.load(path)
        stride = meta.architecture["stride"]
        chosen = ", the best on val" if params.rung(stride).save == "best" else ""
        facts[NETS[path.stem]] = (
            f"{meta.iterations} steps{chosen}, on {meta.threads} threads, sha256 {files.sha256(path)[:12]}, "
            f"from {meta.published or (meta.parent or '')[:12]}"
        )
    return Content(
        f"FCN on {params.data.dataset}",
        facts,
        {net: scores.get(net) for net in NETS},
        pd.read_csv(metrics / "classes.csv", index_col="class"),
    )


def markdown(content: Content) -> str:
    """The report for pull requests."""
    heads = SCORES.values()
    lines = [f"# {content.title}", "", "| net | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for net, row in content.scores.items():
        lines.append(f"| {NETS[net]} | " + " | ".join(_cells(row)) + " |")
    lines += [
        "",
        "Per cent, on the val split. — was neither trained nor published.",
        "",
        "## What was run",
        "",
    ]
    lines += [f"- {name}: {fact}" for name, fact in content.facts.items()]
    lines += [
        "",
        "## IU by class",
        "",
        "| class | " + " | ".join(NETS[str(n)] for n in content.classes) + " |",
    ]
    lines.append("|---|" + "---:|" * len(content.classes.columns))
    for name, values in content.classes.iterrows():
        lines.append(f"| {name} | " + " | ".join(map(_percent, values)) + " |")
    return "\n".join(lines) + "\n"


def page(content: Content, figures: Path) -> str:
    """The report as one page that needs no other file."""
    heads = "".join(f"<th>{title}" for title in SCORES.values())
    rows = "".join(
        f"<tr><th>{NETS[net]}" + "".join(f"<td>{cell}" for cell in _cells(row)) for net, row in content.scores.items()
    )
    nets = "".join(f"<th>{NETS[str(net)]}" for net in content.classes)
    classes = "".join(
        f"<tr><th>{html.escape(str(name))}" + "".join(f"<td>{_percent(value)}" for value in values)
        for name, values in content.classes.iterrows()
    )
    facts = "".join(f"<dt>{html.escape(name)}<dd>{html.escape(fact)}" for name, fact in content.facts.items())
    pictures = "".join(
        f'<figure><img alt="{alt}" src="data:image/png;base64,{_inline(figures / f"{name}.png")}">'
        f"<figcaption>{alt}</figcaption></figure>"
        for name, alt in PICTURES.items()
        if (figures / f"{name}.png").is_file()
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(content.title)}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse }}
th, td {{ padding: .25rem .8rem; border-bottom: 1px solid #8884; text-align: left }}
td {{ text-align: right; font-variant-numeric: tabular-nums }}
img {{ max-width: 100%; background: white; border-radius: 4px }}
figure {{ margin: 2rem 0 }}
dt {{ font-weight: 600 }}
dd {{ margin: 0 0 .5rem; overflow-wrap: anywhere }}
</style>
<h1>{html.escape(content.title)}</h1>
<div class="wide"><table><tr><th>net{heads}{rows}</table></div>
<p>Per cent, on the val split. — was neither trained nor published.</p>
<h2>What was run</h2><dl>{facts}</dl>
<h2>IU by class</h2><div class="wide"><table><tr><th>class{nets}{classes}</table></div>
<h2>Pictures</h2>{pictures}
</html>
"""


def _cells(row: dict[str, float] | None) -> list[str]:
    return [_percent(row[measure]) for measure in SCORES] if row else ["—"] * len(SCORES)


def _percent(value: float) -> str:
    return "—" if value != value else f"{100 * value:.1f}"


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
