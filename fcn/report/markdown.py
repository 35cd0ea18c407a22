"""The report of an experiment as Markdown: configuration, scores, comparison with the paper, IU by class."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fcn.data.labels import Labels
from fcn.evaluation import paper, verdict
from fcn.figures import tables
from fcn.ladder import GEOMETRIC, NETS, SCORES
from fcn.params import Params
from fcn.runtime import files
from fcn.runtime.errors import counted
from fcn.weights import model_file

FEW_IMAGES = 10  # in val; the scores of fewer are unreliable


@dataclass(frozen=True)
class Content:
    """The content of a report.

    facts      configuration, as names and values
    scores     the four scores by net, None for a net that was neither trained nor published
    published  published scores to compare with, by net
    classes    IU by class (rows) and net (columns)
    shares     fraction of each class among the scored pixels
    missing    classes that are in no mask
    warnings   few images in val; nets that are no better, or hardly better, than a constant answer, with causes
    curves     validation rows by net: iteration and scores; only of trained nets
    images     mean IU by image and net, and the fraction of pixels on which the nets differ
    borders    pixels, and each net's wrong pixels, by distance from a class border
    held_out   the four scores by net on the split that nothing was chosen on, if there is one
    geometric  IU by geometric class (rows) and net (columns), if the nets have a second score path
    """

    title: str
    facts: dict[str, str]
    scores: dict[str, dict[str, float] | None]
    published: dict[str, paper.Published]
    labels: Labels
    classes: pd.DataFrame
    shares: list[float]
    missing: list[str]
    warnings: list[str]
    curves: dict[str, pd.DataFrame]
    images: pd.DataFrame
    borders: pd.DataFrame
    geometric: pd.DataFrame | None = None
    held_out: dict[str, dict[str, float]] = field(default_factory=dict)


def gather(params: Params, metrics: Path, models: list[Path]) -> Content:
    """Collect the content of the report from params, metrics and model files."""
    scores: dict[str, Any] = json.loads((metrics / "scores.json").read_text())
    table = _table(metrics / "classes.csv", "class").set_index("class")
    metas = {path: model_file.load(path)[1] for path in models}
    labels = next(meta.labels for meta in metas.values() if meta.labels)
    names, truth = list(labels.names), table["pixels"].tolist()
    images = _table(metrics / "images.csv", "image")
    scored = _scored(images["image"].tolist(), any(meta.scale and meta.scale.tile for meta in metas.values()))
    warnings = []
    if scores and scored < FEW_IMAGES:
        warnings.append(f"{params.data.splits.val} has {counted(scored, 'image')}: scores of so few say little")
    for net, row in scores.items():
        why = verdict.warning(
            names,
            truth,
            table[f"{net}_pixels"].tolist(),
            pixel_accuracy=row["pixel_accuracy"],
            mean_iu=row["mean_iu"],
            stride=int(net.removeprefix("fcn").removesuffix("s")),
            images=int(table["train_images"].max()),
        )
        warnings += [f"{NETS[net]} {why}"] if why else []
    curves = {net: pd.read_csv(metrics / net / "val.csv") for net in NETS}
    geometric = metrics / "figures" / "evaluate" / "geometric.csv"
    return Content(
        f"FCN on {_dataset(params)}",
        _facts(params, metas, scored, len(images)),
        {net: scores.get(net) for net in NETS},
        paper.beside(params),
        labels,
        table[[net for net in NETS if net in table]],
        [pixels / max(1, sum(truth)) for pixels in truth],
        verdict.missing(names, truth),
        warnings,
        {net: rows for net, rows in curves.items() if len(rows)},
        images,
        _table(metrics / "borders.csv", "distance"),
        _table(geometric, "class").set_index("class") if geometric.is_file() else None,
        json.loads((metrics / "test.json").read_text()),
    )


def _table(path: Path, names: str) -> pd.DataFrame:
    """Read a table whose column `names` is kept as text: an image or a class may be called NA, null or 1e5."""
    table = pd.read_csv(path, dtype={names: str}, keep_default_na=False, na_values=[""])
    return table.assign(**{names: table[names].map(tables.name)})


def _scored(names: Sequence[str], tiled: bool) -> int:
    """The number of scored images; a tiled image has one row per tile."""
    return len({re.sub(r"_y\d{5,}_x\d{5,}$", "", name) if tiled else name for name in names})


def _dataset(params: Params) -> str:
    """The data set's name; for a user's folder, the folder's name."""
    dataset, folder = params.data.dataset, params.data.folder.name
    return folder if dataset == "folder" and folder else dataset


def _facts(params: Params, metas: dict[Path, model_file.Meta], images: int, rows: int) -> dict[str, str]:
    """The configuration. There are more rows than images if images were tiled."""
    data, model = params.data, params.model
    tiles = f", in {counted(rows, 'tile')}" if rows > images else ""
    joined = f", inputs {'+'.join(data.inputs)} ({model.fusion} fusion)"
    inputs = joined if len(data.inputs) > 1 else "" if data.inputs == ("rgb",) else f", input {data.inputs[0]}"
    labels = "" if data.labels == "semantic" else f", {data.labels} labels"
    facts = {
        "Data set": f"{_dataset(params)}{labels}, trained on {data.splits.train}, "
        f"scored on {counted(images, 'image')} of {data.splits.val}{tiles}",
        "Net": f"backbone {model.backbone} (weights: {model.weights or 'none'}){inputs}, pad {model.pad}, "
        f"upsampling {model.upsampling}, dropout {model.dropout:g}",
        "Optimizer": f"{params.optimizer}, lr {params.lr:g} on the {params.loss} loss, batch {params.batch_size}, "
        f"weight decay {params.weight_decay:g}, {params.precision}, seed {params.seed}",
    }
    if data.splits.test:
        facts["Held-out split"] = data.splits.test
    for path, meta in metas.items():
        chosen = ", the best on val" if params.rung(meta.architecture["stride"]).save == "best" else ""
        facts[NETS[path.stem]] = (
            f"{counted(meta.iterations, 'step')}{chosen}, on {counted(meta.threads, 'thread')}, "
            f"sha256 {files.sha256(path)[:12]}, "
            f"from {(meta.published and meta.published.name) or (meta.parent or '')[:12]}"
        )
    return facts


def comparison(content: Content) -> dict[str, list[tuple[str, ...]]]:
    """For each net with published scores, formatted rows: measure, paper, reference weights, ours, difference."""
    result: dict[str, list[tuple[str, ...]]] = {}
    for net, published in content.published.items():
        row = content.scores[net]
        result[net] = [
            _compared(
                SCORES[measure],
                published.paper and published.paper[i],
                published.reference and published.reference[i],
                row[measure] if row else None,
            )
            for i, measure in enumerate(paper.MEASURES)
        ]
        if published.geometric:
            ours = row.get(f"{GEOMETRIC}pixel_accuracy") if row else None
            result[net].append(_compared("geometric pixel accuracy", published.geometric, None, ours))
    return result


def _compared(title: str, in_paper: float | None, reference: float | None, ours: float | None) -> tuple[str, ...]:
    """A row of `comparison`; published scores in per cent, ours as a fraction or None."""
    given = ((in_paper, 1), (reference, 2))
    cells = [f"{value:.{digits}f}" if value else "—" for value, digits in given]
    beside = reference or in_paper
    if ours is None or not beside:
        return (title, *cells, "—, not run", "—")
    difference = f"{round(100 * ours - beside, 2) + 0.0:+.2f}".replace("-", "−")
    return (title, *cells, f"{100 * ours:.2f}", difference)


def sources(content: Content) -> str:
    """The sources of the published scores in one line, or a line that there are none."""
    if not content.published:
        return "Nothing comparable is published for this data set, split and size."
    tables = dict.fromkeys(published.source for published in content.published.values() if published.source)
    scored_by = dict.fromkeys(p.scored_by for p in content.published.values() if p.reference)
    return (
        f"Per cent. Paper: {'; '.join(tables) or 'none'}. "
        + (f"Reference weights: as scored by {', '.join(scored_by)}. " if scored_by else "")
        + "The difference is ours less the reference weights', or less the paper's where there are none."
    )


def note(content: Content) -> str:
    """The note below the table of scores."""
    sentences = ["Per cent, on the val split."]
    if None in content.scores.values():
        sentences.append("— was neither trained nor published.")
    if content.missing:
        sentences.append(f"In no mask of val, and excluded from every mean: {', '.join(content.missing)}.")
    return " ".join(sentences)


def held_out_note(content: Content) -> str:
    """The note below the scores on the held-out split."""
    return f"Per cent, on {content.facts['Held-out split']}; neither training nor the choice of weights used it."


def markdown(content: Content) -> str:
    """The report as Markdown, for pull requests."""
    headers = SCORES.values()
    lines = [f"# {plain(content.title)}", "", *(f"**Warning:** {plain(warning)}\n" for warning in content.warnings)]
    lines += ["| net | " + " | ".join(headers) + " |", "|---|" + "---:|" * len(headers)]
    lines += [f"| {NETS[net]} | " + " | ".join(cells(row)) + " |" for net, row in content.scores.items()]
    lines += ["", plain(note(content)), ""]
    if content.held_out:
        lines += ["## Held-out split", "", "| net | " + " | ".join(headers) + " |", "|---|" + "---:|" * len(headers)]
        lines += [f"| {NETS[net]} | " + " | ".join(cells(row)) + " |" for net, row in content.held_out.items()]
        lines += ["", plain(held_out_note(content)), ""]
    if content.geometric is not None:
        head, *body = geometric_rows(content)
        lines += ["## Geometric labels", "", f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
        lines += [f"| {' | '.join([plain(row[0]), *row[1:]])} |" for row in body] + [""]
    lines += ["## Beside the paper", ""]
    if content.published:
        lines += ["| | paper | reference weights | ours | difference |", "|---|---:|---:|---:|---:|"]
    for net, rows in comparison(content).items():
        lines += [f"| {NETS[net]}, {title} | " + " | ".join(row) + " |" for title, *row in rows]
    lines += [""] if content.published else []
    lines += [sources(content), "", "## What was run", ""]
    lines += [f"- {plain(name)}: {plain(fact)}" for name, fact in content.facts.items()]
    nets = [NETS[str(net)] for net in content.classes]
    lines += ["", "## IU by class", "", "| class | " + " | ".join([*nets, "share of pixels"]) + " |"]
    lines.append("|---|" + "---:|" * (len(nets) + 1))
    for (name, values), share in zip(content.classes.iterrows(), content.shares, strict=True):
        row = [plain(str(name)), *map(percent, values), share_of(share)]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def geometric_rows(content: Content) -> list[list[str]]:
    """The table of the second score path: a head, then the four scores and the IU of each class, by net."""
    if content.geometric is None:
        return []
    nets = [str(net) for net in content.geometric]
    rows = [["", *(NETS[net] for net in nets)]]
    for measure, title in SCORES.items():
        scores = [content.scores[net] or {} for net in nets]
        rows.append([title, *(percent(row.get(GEOMETRIC + measure, float("nan"))) for row in scores)])
    return rows + [[f"IU of {name}", *map(percent, values.tolist())] for name, values in content.geometric.iterrows()]


def plain(text: str) -> str:
    """Escape text for Markdown, so that a name cannot add HTML, formulas or table columns."""
    return re.sub(r"([\\`*_\[\]<>&|~$])", r"\\\1", " ".join(text.split()))


def cells(row: dict[str, float] | None) -> list[str]:
    """A net's four scores, formatted."""
    return [percent(row[measure]) for measure in SCORES] if row else ["—"] * len(SCORES)


def percent(value: float) -> str:
    """A fraction as per cent; a dash for NaN."""
    return "—" if value != value else f"{100 * value:.1f}"


def share_of(share: float) -> str:
    """A class's share of the scored pixels as per cent, with enough digits for rare classes."""
    return f"{100 * share:.2f} %" if share else "none"
