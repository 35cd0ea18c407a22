"""What a step costs, by counting and not by the clock: arithmetic, kernels, memory."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode

from fcn.models import FCN


def step_gflop(height: int, width: int, classes: int = 21, backbone: str = "vgg16", pad: Any = 100) -> float:
    """Multiplications and additions of FCN-8s' training step on one image, counted without doing them."""
    with torch.device("meta"):
        net = FCN(classes, 8, backbone, pad=pad).train()
        image = torch.zeros(1, 3, height, width)
    with FlopCounterMode(display=False) as counter:
        net(image).sum().backward()
    return counter.get_total_flops() / 1e9


# By hand, 224 pixels: what feels the image has 226 and 228 rows in block 1, 117 and 119 in block 2, 62, 64 and 66 in
# block 3, 35, 37 and 39 in block 4; block 5 has 27, fc6 and fc7 have 8. A place takes 18 · inputs · outputs in a
# 3×3 layer, 239 million in fc6 and fc7: 64.6 GFLOP forward, thrice that a step; what lies around it adds 3 %.
# Batch norm needs the whole border; its own work is not counted.
@pytest.mark.parametrize(
    ("height", "width", "whole", "apart", "none"), [(224, 224, 376, 200, 127), (375, 500, 878, 588, 485)]
)
def test_a_step_does_not_compute_the_border_twice(height: int, width: int, whole: int, apart: int, none: int) -> None:
    assert step_gflop(height, width, backbone="vgg16_bn") == pytest.approx(whole, rel=0.01)
    assert step_gflop(height, width) <= apart
    assert step_gflop(height, width, pad="same") == pytest.approx(none, rel=0.01)


def test_classes_cost_their_score_layers_and_no_kernel_from_each_to_each() -> None:
    # A dense 16×16 kernel of the last upsampling alone, at 224² with 151 classes: 2 · 16² · 151² · 40² a pass.
    dense = 3 * 2 * 16**2 * 151**2 * 40**2 / 1e9
    more = step_gflop(224, 224, 151) - step_gflop(224, 224, 21)
    assert 0 < more < dense / 10
    assert not [name for name in FCN(151, 8, "slim").state_dict() if name.startswith("upscore")]


def test_a_step_of_googlenet_costs_what_its_layers_cost_by_hand() -> None:
    """224 pixels, millions of multiplications: conv1 118, conv2 360, 3a and 3b 432, 4a to 4e 550, 5a and 5b 122, score
    layers 6. Thrice that in a step, less the gradient of the image, and twice 34 in the upsampling; an addition with
    each. With a border of 100 pixels, 424² / 224² times that at most.
    """
    expected = 2 * (3 * 1.588 - 0.118 + 2 * 0.034)
    assert step_gflop(224, 224, backbone="googlenet", pad="same") == pytest.approx(expected, rel=0.01)
    assert step_gflop(224, 224, backbone="googlenet") < expected * (424 / 224) ** 2


MEMORY = """
import re, sys
from benchmarks import sides
from benchmarks.ours import work
before = sides.peak_gigabytes()
step = work(sys.argv[1], "train", "375x500x21")
for _ in range(3): step()
print(sides.peak_gigabytes() - before)
"""


# Bytes of a weight: fp32 and its momentum; or bf16, an fp32 master and its momentum. The 15 million of convolutions
# have a gradient too; the 119.5 million of fc6 and fc7 never have it whole.
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "weight"), [("fp32", 4 + 4), ("bf16", 2 + 4 + 4)])
def test_a_step_needs_memory_for_weights_and_maps_and_little_more(precision: str, weight: int) -> None:
    weights = 134.5e6 * weight + 15e6 * (4 if precision == "fp32" else 2)
    # What the trunk keeps for the backward pass: each convolution's map and each pooling's, and the choices of the
    # poolings in 8 bytes. Maps of 381×506 (64 channels) in block 1, and so on, with what each layer sees around them.
    maps = [(381 * 506, 64, 2), (196 * 259, 128, 2), (105 * 137, 256, 3), (60 * 76, 512, 3), (38 * 46, 512, 3)]
    size = 4 if precision == "fp32" else 2
    kept = sum(pixels * channels * (count * size + (2 * size + 8) / 4) for pixels, channels, count in maps)
    done = subprocess.run([sys.executable, "-c", MEMORY, precision], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert float(done.stdout) * 1e9 < weights + kept + 0.7e9  # for holes between buffers, and oneDNN's own
