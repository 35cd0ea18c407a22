"""What evaluate and the rungs leave for the report stage, with scores and counts that a test writes by hand."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from conftest import ROOT, changed
from torch import Tensor

from fcn import params
from fcn.data.labels import Labels
from fcn.data.scale import Scale
from fcn.figures import charts
from fcn.ladder import NETS
from fcn.metrics.scores import class_iu
from fcn.models.layers import CAFFE
from fcn.params import Params
from fcn.report import markdown
from fcn.weights import model_file

NAMES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")


@dataclass
class Written:
    folder: Path
    params: Params

    def content(self) -> markdown.Content:
        models = [self.folder / f"{net}.safetensors" for net in NETS]
        return markdown.gather(self.params, self.folder, models)


def written(
    folder: Path,
    recipe: str,
    labels: Labels,
    counts: dict[str, Tensor],
    scores: dict[str, Any],
    images: int = 400,
    val: tuple[str, ...] = ("first", "second"),
    tile: str = "none",
    **changes: Any,
) -> Written:
    """Everything that the report stage reads, as evaluate and the rungs leave it."""
    experiment = params.check(changed((ROOT / "recipes" / f"{recipe}.yaml").read_text(), changes), "params.yaml")
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "test.json").write_text("{}")
    columns = {net: class_iu(matrix).tolist() for net, matrix in counts.items() if net in scores}
    columns["train_images"] = [images] * len(labels.names)
    columns["pixels"] = next(iter(counts.values())).sum(1).tolist()
    columns |= {f"{net}_pixels": matrix.sum(0).tolist() for net, matrix in counts.items() if net in scores}
    (folder / "classes.csv").write_text(charts.class_table(labels, columns))
    ends = {"image": val, **{net: [0.25, *[0.75] * (len(val) - 1)] for net in scores}}
    pd.DataFrame({**ends, "differ": [0.1, *[0.3] * (len(val) - 1)]}).to_csv(folder / "images.csv", index=False)
    near = {"distance": ["1", "2", "farther"], "pixels": [4, 4, 392], **{net: [3, 1, 56] for net in scores}}
    pd.DataFrame(near).to_csv(folder / "borders.csv", index=False)
    for net, stride in zip(NETS, (32, 16, 8), strict=True):
        (folder / net).mkdir()
        (folder / net / "train.csv").write_text("iteration,lr,loss\n")
        (folder / net / "val.csv").write_text(",".join(["iteration", *NAMES]) + "\n")
        meta = model_file.Meta(
            {"stride": stride}, CAFFE, labels, None, model_file.Published(f"{net}-heavy-pascal", "ab" * 32), 0, 2, {}
        )
        meta = replace(meta, scale=Scale("native", tile))
        model_file.save(folder / f"{net}.safetensors", {"x": torch.zeros(1)}, meta)
    return Written(folder, experiment)


def row(*values: float) -> dict[str, float]:
    return dict(zip(NAMES, (value / 100 for value in values), strict=True))
