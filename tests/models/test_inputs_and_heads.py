"""Nets with other inputs than RGB, with two score paths, and late fusion."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fcn import models
from fcn.data import depth
from fcn.models import FCN, LateFusion, surgery
from fcn.models.layers import CAFFE, TORCHVISION, Preprocessing


def noise(*shape: int, seed: int = 1) -> Tensor:
    return 255 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomized(net: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net.double().eval()


def shared(net: nn.Module, other: nn.Module, suffix: str) -> None:
    """Gives `other`, a net with one score path, the weights of a net with two."""
    state = net.state_dict()
    other.load_state_dict(
        {name: state.get(name, state.get(name.replace(".", f"{suffix}.", 1))) for name in other.state_dict()}
    )


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("pad", ["same", 100])
def test_two_score_paths_are_the_two_nets_with_one_each(stride: int, pad: object) -> None:
    both = randomized(FCN(5, stride, "slim", geometric=3, pad=pad), 3)  # type: ignore[arg-type]
    image = noise(1, 3, 45, 70)
    for suffix, classes, span in (("_sem", 5, slice(0, 5)), ("_geo", 3, slice(5, 8))):
        one = FCN(classes, stride, "slim", pad=pad).double().eval()  # type: ignore[arg-type]
        shared(both, one, suffix)
        assert torch.equal(both(image)[:, span], one(image))


def test_the_trunk_gets_the_sum_of_both_paths_gradients() -> None:
    both = randomized(FCN(5, 8, "slim", geometric=3, pad="same"), 4)
    image, truth = noise(1, 3, 40, 48), torch.arange(40 * 48).reshape(1, 40, 48) % 3
    semantic, geometric = torch.split(both(image), [5, 3], 1)
    loss = nn.functional.cross_entropy
    (loss(semantic, truth) + loss(geometric, truth)).backward()
    expected: dict[str, Tensor] = {}
    for suffix, classes in (("_sem", 5), ("_geo", 3)):
        one = FCN(classes, 8, "slim", pad="same").double().eval()
        shared(both, one, suffix)
        loss(one(image), truth).backward()
        for name, parameter in one.named_parameters():
            if not name.startswith(("score", "upscore")):
                assert parameter.grad is not None
                expected[name] = expected.get(name, torch.zeros_like(parameter.grad)) + parameter.grad
    for name, gradient in expected.items():
        torch.testing.assert_close(both.get_parameter(name).grad, gradient, rtol=1e-12, atol=1e-15)
    assert any(gradient.abs().max() > 1e-6 for gradient in expected.values())


@pytest.mark.parametrize("kind", ["two paths", "four channels", "late"])
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    options = {"num_classes": 4, "stride": 8, "backbone": "slim", "pad": "same"}
    inputs = {"two paths": None, "four channels": {"rgb": 3, "depth": 1}, "late": {"rgb": 3, "hha": 3}}[kind]
    if kind == "two paths":
        options["geometric"] = 3
    fusion = "late" if kind == "late" else "early"
    expected = TORCHVISION.extended(inputs or {"rgb": 3})
    net = randomized(models.build(inputs, fusion, preprocessing=expected, **options), 5)
    image = noise(1, sum((inputs or {"rgb": 3}).values()), 33, 41)
    weight = noise(*net(image).shape, seed=2) / 255

    def value() -> Tensor:
        return (net(image) * weight).mean()

    value().backward()
    step = 1e-6
    for name, parameter in net.named_parameters():
        if not name.endswith(("conv1_1.weight", "fc6.weight", "score_fr.weight", "score_fr_geo.bias", "conv3_2.bias")):
            continue
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        direction /= direction.norm()
        assert parameter.grad is not None
        ours = float((parameter.grad * direction).sum())
        with torch.no_grad():
            parameter += step * direction
            above = float(value())
            parameter -= 2 * step * direction
            below = float(value())
            parameter += step * direction
        assert ours == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-9), name


def test_late_fusion_is_half_of_each_net() -> None:
    expected = CAFFE.extended({"rgb": 3, "hha": 3})
    net = LateFusion({"rgb": 3, "hha": 3}, 4, 16, preprocessing=expected, backbone="slim", pad="same")
    randomized(net, 6)
    colour, hha = (trunk for _, trunk in net.trunks())
    image = noise(2, 6, 50, 37)
    assert (net(image) - (0.5 * colour(image[:, :3]) + 0.5 * hha(image[:, 3:]))).abs().max() <= 1e-12
    assert colour.preprocessing == CAFFE
    assert hha.preprocessing == Preprocessing("RGB", 1.0, (132.431, 94.076, 118.477), (1.0, 1.0, 1.0))
    assert [prefix for prefix, _ in net.trunks()] == ["rgb.", "hha."]


def test_the_depth_filter_is_the_mean_of_the_colours() -> None:
    """Source: conv1_1_bgrd in nyud-fcn32s-color-d/solve.py of the reference."""
    backbone = FCN(1, 32, "slim").state_dict()
    parent = {name: tensor for name, tensor in backbone.items() if not name.startswith("score")}
    net = FCN(4, 32, "slim", inputs={"rgb": 3, "depth": 1}, pad="same")
    surgery.transplant(net, parent, init_std=0.0, generator=torch.Generator())
    weight, colours = net.get_parameter("conv1_1.weight"), parent["conv1_1.weight"]
    assert torch.equal(weight[:, :3], colours)
    torch.testing.assert_close(weight[:, 3], (colours[:, 0] + colours[:, 1] + colours[:, 2]) / 3)
    finer = FCN(4, 16, "slim", inputs={"rgb": 3, "depth": 1}, pad="same")
    surgery.transplant(finer, net.state_dict(), init_std=0.0, generator=torch.Generator())
    assert torch.equal(finer.get_parameter("conv1_1.weight"), weight)


def test_each_net_of_a_late_fusion_starts_from_the_backbone_and_then_from_its_own_part() -> None:
    backbone = FCN(1, 32, "slim").state_dict()
    parent = {name: tensor for name, tensor in backbone.items() if not name.startswith("score")}
    inputs = {"rgb": 3, "depth": 1}
    options = {"preprocessing": CAFFE.extended(inputs), "backbone": "slim", "pad": "same"}
    net = LateFusion(inputs, 4, 32, **options)  # type: ignore[arg-type]
    table = dict(surgery.transplant(net, parent, init_std=0.0, generator=torch.Generator()))
    assert table["rgb.conv1_1"] == table["depth.conv5_3"] == "carried"
    assert table["depth.score_fr"] == "created"
    assert torch.equal(net.get_parameter("rgb.fc6.weight"), net.get_parameter("depth.fc6.weight"))
    with torch.no_grad():
        net.get_parameter("depth.fc6.weight").zero_()
    finer = LateFusion(inputs, 4, 16, **options)  # type: ignore[arg-type]
    surgery.transplant(finer, net.state_dict(), init_std=0.0, generator=torch.Generator())
    assert not finer.get_parameter("depth.fc6.weight").any()
    assert finer.get_parameter("rgb.fc6.weight").any()


def test_a_net_sees_the_logarithm_of_depth_as_the_reference_does() -> None:
    millimetres = np.array([[500, 1000, 2550, 9999, 0]])
    codes = depth.encode(millimetres)
    assert codes.tolist()[0][4] == depth.UNKNOWN
    seen = CAFFE.extended({"rgb": 3, "depth": 1})(torch.from_numpy(codes)[None, None].expand(1, 4, 1, 5), torch.float64)
    for code, value in zip(seen[0, 3, 0].tolist()[:4], millimetres[0].tolist()[:4], strict=True):
        assert abs(code - (math.log(value) - 7.844)) <= 0.5 / 40 + 1e-6  # half a step of the codes


def test_codes_of_depth_end_at_1_and_255() -> None:
    assert depth.encode(np.array([[1, 148, 65535, 10**8]])).tolist() == [[1, 1, 244, 255]]


def test_other_channels_are_normalized_as_an_average_colour() -> None:
    inputs = {"bands": 5}
    found = TORCHVISION.extended(inputs)
    assert found.mean[:3] == TORCHVISION.mean
    assert found.mean[3:] == pytest.approx([(0.485 + 0.456 + 0.406) / 3] * 2)
    assert found.std[3:] == pytest.approx([(0.229 + 0.224 + 0.225) / 3] * 2)
    assert CAFFE.extended({"hha": 3}).order == "RGB"
    assert CAFFE.extended({"rgb": 3}) == CAFFE
    assert TORCHVISION.extended({"depth": 1}).mean == pytest.approx([0.449])
