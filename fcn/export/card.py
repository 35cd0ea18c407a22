"""The model card of an exported net: data, params, scores, limits and digests, in the Hub's format.

Scores are those of the experiment whose dvc.lock has the model file: the workspace, a commit or a DVC experiment of
this checkout. Their interval is computed from the masks and predictions in DVC's cache.

source   huggingface.co/docs/hub/model-cards; Mitchell et al., Model Cards for Model Reporting, FAT* 2019
"""

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fcn import params
from fcn.comparison import counts, significance
from fcn.comparison.significance import Interval
from fcn.data import depth
from fcn.datasets import sources
from fcn.experiments import history
from fcn.experiments.history import Snapshot
from fcn.export.onnx import Difference, columns
from fcn.figures import tables
from fcn.ladder import BY_STRIDE, GEOMETRIC, HELD_OUT, NETS, SCORES
from fcn.pipeline import dvc_lock
from fcn.report.markdown import plain
from fcn.runtime import files
from fcn.runtime.errors import UserError
from fcn.tracking import identity
from fcn.weights.model_file import Meta

NEWEST = 100  # commits with results that are searched for the model file
KINDS = {"": "", GEOMETRIC: "geometric labels, ", HELD_OUT: "held-out split, "}
KINDS[HELD_OUT + GEOMETRIC] = KINDS[HELD_OUT] + KINDS[GEOMETRIC]
DRAWN = "The images are drawn by this project's code, under its licence, MIT."
OWN = "The images are the user's own; their terms of use are not recorded."

INPUTS = {  # what a channel holds
    "image": "RGB",
    "depth": f"{depth.STEPS} · (ln(depth in mm) - {depth.LOWEST}), rounded; {depth.UNKNOWN} where it is unknown",
    "hha": "HHA",
    "infrared": "grey",
}


@dataclass(frozen=True)
class Record:
    """The experiment that a model file is from.

    net       its name there, as in fcn.ladder
    interval  mean IU on val with its interval; None if DVC's cache does not have the predictions
    """

    state: Snapshot
    net: str
    interval: Interval | None

    @property
    def scores(self) -> dict[str, float]:
        """The net's scores without its name."""
        return {
            name.removeprefix(f"{self.net}."): value
            for name, value in self.state.scores.items()
            if name.startswith(f"{self.net}.")
        }

    @property
    def classes(self) -> list[tuple[str, float]]:
        """Name and IU of each class, from metrics/classes.csv; empty if there is no such table."""
        content = self.state.content.get("metrics/classes.csv", b"") if self.scores else b""
        try:
            table = pd.read_csv(io.BytesIO(content), dtype={"class": str}, keep_default_na=False, na_values=[""])
            return [(tables.name(name), float(iu)) for name, iu in zip(table["class"], table[self.net], strict=True)]
        except (ValueError, KeyError):
            return []


def record(model: Path) -> Record | None:
    """The newest experiment of this checkout that has a model file, with scores if possible; None if there is none.

    raises   UserError if the workspace's dvc.lock is truncated
    """
    digest = files.md5(model)
    snapshots, _ = history.known(NEWEST)
    found = [
        (state, net)
        for state in reversed(snapshots)
        for net in NETS
        if state.digest(f"data/weights/{net}.safetensors") == digest
    ]
    scored = [(state, net) for state, net in found if f"{net}.mean_iu" in state.scores]
    return next((Record(state, net, _interval(state, net)) for state, net in (*scored, *found)), None)


def _interval(state: Snapshot, net: str) -> Interval | None:
    if f"{net}.mean_iu" not in state.scores:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            table = counts.opened(state, Path(folder)).count(net)
            # The difference from a net that has no pixel right is the mean IU itself.
            nothing = table.copy()
            nothing[:, 0] = 0
            return significance.bootstrap(nothing, table)
        except (UserError, ValueError):
            return None


def card(meta: Meta, found: Record | None, digests: Mapping[str, str], difference: Difference) -> str:
    """README.md of the folder.

    digests   sha256 of the files beside it, by name
    """
    rung = BY_STRIDE[meta.architecture["stride"]]
    front = yaml.safe_dump(_front(rung.title, found), sort_keys=False, allow_unicode=True)
    parts = (
        [f"---\n{front}---\n\n# {rung.title}"],
        _use(meta, difference),
        _data(found),
        _scores(found),
        _params(meta, found),
        _limits(meta),
        _digests(meta, found, digests),
    )
    return "\n\n".join(line for part in parts for line in part) + "\n"


def _front(title: str, found: Record | None) -> dict[str, Any]:
    """The card's metadata, which the Hub reads."""
    front: dict[str, Any] = {
        "pipeline_tag": "image-segmentation",
        "library_name": "onnx",
        "tags": ["semantic-segmentation", "fcn", "onnx", "safetensors"],
    }
    if found and _dataset(found) == "scenes":
        front["license"] = "mit"
    if found and "mean_iu" in found.scores:
        name = str(found.state.experiment.dataset)
        result = {
            "task": {"type": "image-segmentation"},
            "dataset": {"name": name, "type": name, "split": str(found.state.values["data"]["splits"]["val"])},
            "metrics": [{"type": "mean_iou", "name": "mean IU", "value": round(found.scores["mean_iu"], 4)}],
        }
        front["model-index"] = [{"name": title, "results": [result]}]
    return front


def _dataset(found: Record) -> str:
    return str(found.state.values["data"]["dataset"])


def _use(meta: Meta, difference: Difference) -> Iterator[str]:
    architecture = meta.architecture
    assert meta.labels is not None
    taken = columns(architecture.get("inputs", {"rgb": 3}))
    inputs = ", ".join(f"`{name}` ({INPUTS.get(name, f'{count} channels')})" for name, count in taken.items())
    prefixes = ("", GEOMETRIC) if meta.geometric else ("",)
    outputs = ", ".join(f"`{prefix}{name}`" for prefix in prefixes for name in ("logits", "classes"))
    yield (
        f"A fully convolutional network (Long, Shelhamer and Darrell, CVPR 2015) with the backbone "
        f"{architecture.get('backbone', 'vgg16')}, which gives each pixel of an image one of "
        f"{len(meta.labels.names)} classes. `labels.json` has their names and colours."
    )
    yield (
        "`model.onnx` takes uint8 images, (batch, height, width, channel), of any number and size, and normalizes them "
        f"itself; its inputs are {inputs}. Its outputs are {outputs}. `model.safetensors` is the same net for the "
        "project that trained it. In onnxruntime, logits differ from torch's by at most "
        f"{difference.logits:.1e} (the largest is {difference.largest:.1f}), and the class of {difference.other} of "
        f"{difference.pixels} pixels of random images."
    )
    if meta.scale:
        yield f"Images of the evaluation were {meta.scale}; resize others in the same way."


def _data(found: Record | None) -> Iterator[str]:
    yield "## Data"
    if found is None:
        yield "No experiment of the checkout that exported this net has its file; its data are not known there."
        return
    splits = found.state.values["data"]["splits"]
    yield (
        f"Data set {plain(found.state.experiment.dataset)}: trained on the split {plain(str(splits['train']))}, "
        f"evaluated on {plain(str(splits['val']))}. The packed splits have the md5 "
        f"{dvc_lock.packed(found.state.lock)} in DVC."
    )
    yield from _terms(found)


def _terms(found: Record) -> Iterator[str]:
    """The terms of use of the data."""
    kind = _dataset(found)
    if kind in ("scenes", "folder"):
        yield DRAWN if kind == "scenes" else OWN
        return
    try:
        data = params.check(found.state.values, "").data
        notices = [archive.notice for archive in sources.get(kind).archives(data)]
    except UserError:
        notices = []
    yield "Terms of use, as the data's authors state them; they may apply to the net as well:" if notices else OWN
    yield "\n".join(f"- {plain(notice)}" for notice in notices)


def _scores(found: Record | None) -> Iterator[str]:
    yield "## Scores"
    if found is None or not found.scores:
        yield "None are recorded."
        return
    yield "In per cent, as the paper defines them."
    rows = [
        (KINDS[kind] + title, f"{100 * found.scores[kind + name]:.2f}")
        for kind in KINDS
        for name, title in SCORES.items()
        if kind + name in found.scores
    ]
    yield _table(("score", "value"), rows)
    if found.interval:
        low, high = (f"{100 * value:.2f}" for value in (found.interval.low, found.interval.high))
        yield f"95 % interval of mean IU: {low} to {high}, a bootstrap over the images of the evaluation."
    else:
        yield "No interval: DVC's cache did not have the predictions."
    if found.classes:
        yield _table(
            ("class", "IU"), [(plain(name), f"{100 * iu:.1f}" if iu == iu else "—") for name, iu in found.classes]
        )


def _params(meta: Meta, found: Record | None) -> Iterator[str]:
    yield "## Params"
    facts = identity.flat(found.state.values if found else meta.params)
    rows = [(plain(key), plain(str(value))) for key, value in facts.items()]
    yield _table(("param", "value"), rows) if rows else "None are recorded."


def _limits(meta: Meta) -> Iterator[str]:
    yield "## Limits"
    assert meta.labels is not None
    lines = [
        "Every pixel gets one of the classes, also where an image shows none of them.",
        "The scores hold for images like those of the data set; on others they may be far lower.",
        "The softmax of the logits is not calibrated.",
    ]
    if meta.architecture["stride"] > 8:
        lines.append("Objects smaller than the net's stride of pixels are often lost.")
    yield "\n".join(f"- {line}" for line in lines)


def _digests(meta: Meta, found: Record | None, digests: Mapping[str, str]) -> Iterator[str]:
    yield "## Digests"
    rows = [(name, f"sha256 {digest}") for name, digest in digests.items()]
    if meta.parent:
        rows.append(("the model file it was trained from", f"sha256 {meta.parent}"))
    if meta.published:
        rows.append((f"published weights {meta.published.name}", f"sha256 {meta.published.sha256 or 'not recorded'}"))
    if found and found.state.commit:
        rows.append(("commit of the results", found.state.commit))
    yield _table(("file", "digest"), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (heads, ["---"] * len(heads), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
