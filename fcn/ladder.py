"""The ladder of nets, coarse to fine: each starts from the one before it, FCN-32s from the backbone."""

from dataclasses import dataclass
from typing import Literal, get_args

Stride = Literal[32, 16, 8]
STRIDES: tuple[Stride, ...] = get_args(Stride)


@dataclass(frozen=True)
class Net:
    """One net of the ladder, a rung.

    stride    in pixels
    name      in files: data/weights/NAME.safetensors, metrics/NAME, keys of metrics/scores.json
    title     in print
    stage     in dvc.yaml
    section   in params.yaml
    parent    name of the model file that it starts from
    """

    stride: Stride
    name: str
    title: str
    stage: str
    section: str
    parent: str


LADDER = (
    Net(32, "fcn32s", "FCN-32s", "train", "train", "backbone"),
    Net(16, "fcn16s", "FCN-16s", "finetune16s", "finetune.fcn16s", "fcn32s"),
    Net(8, "fcn8s", "FCN-8s", "finetune8s", "finetune.fcn8s", "fcn16s"),
)
BY_STRIDE: dict[int, Net] = {net.stride: net for net in LADDER}
NETS = {net.name: net.title for net in LADDER}
SCORES = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iu": "mean IU",
    "frequency_weighted_iu": "f.w. IU",
}
# Prefixes of scores: of a second score path, and, in MLflow, on the held-out split.
GEOMETRIC, HELD_OUT = "geometric_", "test_"
