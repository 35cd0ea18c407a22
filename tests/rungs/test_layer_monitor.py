"""What `debug: true` shows of a step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcn.data.sampling import SampledImage, Sampler
from fcn.data.split import Split
from fcn.models.fcn import FCN
from fcn.params import Params
from fcn.rungs import layer_monitor
from fcn.training import steps
from fcn.training.optimizer import Optimizer


def test_a_step_is_looked_at_layer_by_layer_and_the_hooks_go_again(
    small: Callable[..., Params], packed: Path, tmp_path: Path
) -> None:
    experiment = small(optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=0.5, **{"train.schedule": "fixed"})
    torch.manual_seed(0)
    net = FCN(8, 8, "slim", pad="same")
    torch.nn.init.zeros_(net.score_pool3.weight)
    optimizer = Optimizer(net, experiment)
    watch = layer_monitor.LayerMonitor(net, optimizer, iterations=40)  # every second step, and the first
    sampler = Sampler(Split(packed, "train"), experiment.data, seed=1, stride=8, batch_size=2)
    watch.begin(1)
    for step in steps.steps(net, optimizer, sampler, experiment, experiment.train):
        watch.end()
        watch.begin(step.number + 1)
    watch.end()
    assert [row["iteration"] for row in watch.rows] == [1, 2, 4]
    row = watch.rows[0]
    for layer in ("conv1_1", "conv5_3", "fc6", "score_fr"):
        # Plain SGD moves a weight by rate × gradient.
        expected = 0.5 * row[f"{layer}.gradient_norm"] / row[f"{layer}.weight_norm"]
        assert row[f"{layer}.update_ratio"] == pytest.approx(expected, rel=1e-4)
    assert row["score_pool3.weight_norm"] == row["score_pool3.update_ratio"] == 0  # starts at zero
    assert watch.rows[1]["score_pool3.weight_norm"] > 0
    assert 0.2 < row["conv3_1.sparsity"] < 0.8  # batch norm, then ReLU: about half
    assert "score_fr.sparsity" not in row
    assert not net.conv1_1._forward_hooks
    assert not net.bn1_1._forward_hooks
    layer_monitor.picture(watch.rows, "FCN-8s", tmp_path / "flow.png")
    with Image.open(tmp_path / "flow.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert (0xD6, 0x27, 0x28) in colours  # score_pool3, in the step in which it leaves zero


def test_every_layer_of_an_inception_is_looked_at_after_its_batch_norm_and_relu(
    small: Callable[..., Params], packed: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = FCN(8, 32, "slim_googlenet", pad="same")
    watch = layer_monitor.LayerMonitor(net, Optimizer(net, small()), iterations=1)
    sampler = Sampler(Split(packed, "train"), small().data, seed=1, stride=32, batch_size=2)
    watch.begin(1)
    next(iter(steps.steps(net, watch.optimizer, sampler, small(), small().train)))
    row = watch.end()
    assert row is not None
    for layer in ("conv1/7x7_s2", "inception_3a/1x1", "inception_3a/5x5_reduce", "inception_5b/pool_proj"):
        assert 0.2 < row[f"{layer}.sparsity"] < 0.8
        assert row[f"{layer}.gradient_norm"] > 0
    layer_monitor.picture([row], "FCN-32s", tmp_path / "flow.png")


def test_where_the_border_is_computed_apart_activations_are_those_about_the_image(
    small: Callable[..., Params], narrow_vgg16: None
) -> None:
    torch.manual_seed(0)
    net = FCN(8, 8).to(memory_format=torch.channels_last)
    watch = layer_monitor.LayerMonitor(net, Optimizer(net, small()), iterations=1)
    watch.begin(1)
    seen: list[torch.Tensor] = []
    hook = net.conv2_1.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().relu()))
    images = [SampledImage("", np.full((40, 56, 3), 90, np.uint8), np.zeros((40, 56), np.uint8), 0)]
    steps.backward(net, watch.optimizer, images, "mean", 1, None)
    watch.optimizer.step(0.1)
    hook.remove()
    row = watch.end()
    assert row is not None
    # Two rows at each end feel the edge, one is alike; of 20 pooled ones the image is felt by 25.
    assert [tuple(around.shape[2:]) for around in seen] == [(5, 5), (25, 33)]
    assert row["conv2_1.activation_mean"] == pytest.approx(float(seen[1].mean()), rel=1e-5)
    assert row["fc6.gradient_norm"] > 0


def test_activations_are_those_after_the_relu(small: Callable[..., Params]) -> None:
    net = FCN(3, 8, "slim", pad="same").eval()
    watch = layer_monitor.LayerMonitor(net, Optimizer(net, small()), iterations=1)
    watch.begin(1)
    seen: list[torch.Tensor] = []
    hook = net.conv1_2.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    with torch.no_grad():
        net(torch.randint(0, 256, (1, 3, 20, 20), dtype=torch.uint8))
    hook.remove()
    row = watch.end()
    assert row is not None
    assert row["conv1_1.activation_mean"] == pytest.approx(float(seen[0].mean()), rel=1e-5)
    assert row["conv1_1.sparsity"] == pytest.approx(float((seen[0] == 0).float().mean()), rel=1e-5)
