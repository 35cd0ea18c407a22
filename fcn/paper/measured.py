"""Two tables of the paper that need no training: the bound of the scores by stride, and the time of a forward pass."""

import os
import statistics
import time

import numpy as np
import torch

from fcn.datasets.label_maps import SCENES
from fcn.datasets.rendering import render
from fcn.evaluation import bound, paper
from fcn.metrics.scores import confusion, scores
from fcn.models import FCN
from fcn.paper.findings import Comparison
from fcn.paper.page import Section, sentence, spread
from fcn.params import Params
from fcn.rungs import cost
from fcn.runtime import machine

SIDE, IMAGES = 256, 40  # of the scenes for the bound; larger than the tiny scale's, so that coarse factors differ
REPEATS = 3
TIMES = {"alexnet": 50, "vgg16": 210}  # ms of the paper, CVPR 2015 (arXiv 1411.4038v2), table 1
TIMED = 500  # pixels, width and height, as in table 1


def bounds(seeds: int) -> Section:
    """The bound of mean IU by stride, over as many sets of scenes as there are seeds."""
    found: dict[int, list[float]] = {factor: [] for factor in bound.FACTORS}
    classes = len(SCENES.names)
    for seed in range(seeds):
        masks = [np.asarray(render((seed, 0, i), SIDE, SIDE, None).mask) for i in range(IMAGES)]
        for factor, values in found.items():
            counts = torch.zeros(classes, classes, dtype=torch.int64)
            for mask in masks:
                coarse = torch.from_numpy(bound.down_and_back(mask, factor, classes))
                counts += confusion(torch.from_numpy(mask.copy()), coarse, classes)
            values.append(100 * scores(counts).mean_iu)
    return Section(
        "bound",
        "Upper bound by stride",
        "Truth downsampled by a stride and upsampled again is about the best a net of this stride can predict. Coarse "
        "strides still reach a high mean IU, which therefore says little of fine detail (appendix A).",
        ["stride", "mean IU of downsampled truth", "published: mean IU"],
        [[str(factor), spread(values), f"{paper.BOUNDS[factor]:.1f}"] for factor, values in found.items()],
        {f"stride {factor}": values for factor, values in found.items()},
        [],
        f"{seeds} sets of {IMAGES} scenes of {SIDE}x{SIDE} pixels. No net is trained.",
        paper.BOUNDS_SOURCE,
        "mean IU of downsampled truth, per cent",
    )


def times(params: Params) -> Section:
    """The time of FCN-32s's forward pass by backbone, on one image."""
    rows, plotted = [], {}
    for backbone in ("alexnet", "vgg16", "slim"):
        model = params.model.model_copy(update={"backbone": backbone, "pad": 100})
        flops = cost.forward_flops(params.model_copy(update={"model": model}), 21, 32, TIMED, TIMED)
        values = forward_ms(backbone)
        plotted[backbone] = values
        paper_ms = str(TIMES[backbone]) if backbone in TIMES else "—"
        per_pixel = 1e6 * statistics.mean(values) / TIMED**2
        rows.append([f"FCN-32s, {backbone}", spread(values), f"{per_pixel:.0f}", f"{flops / 1e9:.1f}", paper_ms])
    return Section(
        "time",
        "Inference time",
        "FCN-VGG16 takes longer than FCN-AlexNet, about four times (sec. 4.1, table 1).",
        ["net", "ms per image", "ns per pixel", "GFLOP per image", "published: ms"],
        rows,
        plotted,
        [sentence(Comparison("vgg16", "alexnet", "higher"), plotted)],
        f"{REPEATS} forward passes of one {TIMED}x{TIMED} image, after one for warm-up; 21 classes, pad 100. Other "
        f"work on the machine makes them longer; its load average was {os.getloadavg()[0]:.1f}.",
        "CVPR 2015 (arXiv 1411.4038v2), table 1, on a Tesla K40c",
        "milliseconds per image of 500x500 pixels",
    )


def forward_ms(backbone: str) -> list[float]:
    """Milliseconds of a few forward passes of FCN-32s."""
    net = FCN(21, 32, backbone, pad=100).eval().to(machine.device())
    image = torch.randint(0, 256, (1, 3, TIMED, TIMED), dtype=torch.uint8, device=machine.device())
    values = []
    with torch.no_grad():
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            net(image).sum().item()
            values.append(1000 * (time.perf_counter() - start))
    return values[1:]
