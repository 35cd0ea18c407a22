"""What Caffe's layers become: a state dict under our names, and a net that computes the same."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from caffe import Array, blobs_of, net_of, numbers

from fcn.io import caffemodel
from fcn.models import fcn
from fcn.models.layers import bilinear_kernel
from fcn.runtime.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.caffemodel"


def test_weights_and_biases_take_the_layers_names() -> None:
    weight, bias, kernel = numbers(2, 3, 3, 3), numbers(2), numbers(2, 2, 4, 4)
    state = caffemodel.state_dict({"conv1_1": [weight, bias], "upscore2": [kernel]})
    assert list(state) == ["conv1_1.weight", "conv1_1.bias", "upscore2.weight"]
    assert torch.equal(state["conv1_1.weight"], torch.tensor(weight))
    assert torch.equal(state["conv1_1.bias"], torch.tensor(bias))
    assert torch.equal(state["upscore2.weight"], torch.tensor(kernel))


@pytest.mark.parametrize("old", [True, False])
def test_vgg16s_fully_connected_layers_become_convolutions_and_fc8_is_dropped(path: Path, old: bool) -> None:
    fc6, fc7, fc8 = numbers(6, 2 * 49), numbers(5, 6), numbers(1000, 5)
    layers = {name: [matrix, numbers(len(matrix))] for name, matrix in (("fc6", fc6), ("fc7", fc7), ("fc8", fc8))}
    path.write_bytes(net_of(layers, old))
    state = caffemodel.state_dict(caffemodel.read(path))
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "fc6.weight": (6, 2, 7, 7), "fc6.bias": (6,), "fc7.weight": (5, 6, 1, 1), "fc7.bias": (5,)
    }  # fmt: skip
    assert state["fc6.weight"][4, 1, 2, 3] == fc6[4, 1 * 49 + 2 * 7 + 3]  # Caffe flattens channel, row, column
    assert state["fc7.weight"][4, 3, 0, 0] == fc7[4, 3]
    assert torch.equal(state["fc7.bias"], torch.tensor(layers["fc7"][1]))


def test_both_of_sift_flows_score_paths_keep_their_names() -> None:
    sem, geo = numbers(33, 4, 1, 1), numbers(3, 4, 1, 1)
    state = caffemodel.state_dict({"score_pool4_sem": [sem, numbers(33)], "score_pool4_geo": [geo, numbers(3)]})
    assert list(state) == [f"score_pool4_{path}.{kind}" for path in ("sem", "geo") for kind in ("weight", "bias")]
    assert torch.equal(state["score_pool4_sem.weight"], torch.tensor(sem))
    assert torch.equal(state["score_pool4_geo.weight"], torch.tensor(geo))


def test_the_nets_of_a_late_fusion_share_their_upsampling() -> None:
    pair, kernel = [numbers(2, 4, 1, 1), numbers(2)], numbers(2, 2, 64, 64)
    state = caffemodel.state_dict({"score_frcolor": pair, "score_frhha": pair, "upscore": [kernel]})
    names = [f"{net}.{layer}" for layer in ("score_fr.weight", "upscore.weight") for net in ("rgb", "hha")]
    assert set(names) < set(state)
    assert torch.equal(state["rgb.upscore.weight"], state["hha.upscore.weight"])


def test_unknown_layers_are_all_named_in_one_line() -> None:
    pair = [numbers(1, 1, 1, 1), numbers(1)]
    names = [
        "conv1_1colour",
        "conv1_2_bgrd",
        "score-fr",
        "conv6_1",
        "conv1_1_sem",
        "conv1_1_color",
        "upscore4",
        "fc9",
        "a\nb",
    ]
    with pytest.raises(UserError) as error:
        caffemodel.state_dict(dict.fromkeys([*names, "conv1_1"], pair))
    assert "\n" not in str(error.value)
    assert all(repr(name) in str(error.value) for name in names)
    assert "'conv1_1'" not in str(error.value)


def test_a_kernel_of_one_group_a_class_is_spread_over_the_diagonal() -> None:
    kernel = numbers(3, 1, 4, 4)
    trunk = {"conv1_1": [numbers(64, 3, 3, 3), numbers(64)]}
    spread = caffemodel.state_dict(trunk | {"upscore2": [kernel]})["upscore2.weight"]
    assert spread.shape == (3, 3, 4, 4)
    for i, j in itertools.product(range(3), range(3)):
        assert torch.equal(spread[i, j], torch.tensor(kernel[i, 0]) if i == j else torch.zeros(4, 4))
    x = torch.tensor(numbers(1, 3, 5, 6))
    grouped = torch.nn.functional.conv_transpose2d(x, torch.tensor(kernel), stride=2, groups=3)
    assert torch.allclose(torch.nn.functional.conv_transpose2d(x, spread, stride=2), grouped, atol=1e-6)


def test_a_grouped_kernel_larger_than_its_net_is_not_spread() -> None:
    with pytest.raises(UserError, match="upscore2 of shape"):
        caffemodel.state_dict({"upscore2": [np.zeros((2_000_000, 1, 1, 1), np.float32)]})


def test_the_at_once_nets_scales_are_checked_and_left_out() -> None:
    pair = [numbers(2, 4, 1, 1), numbers(2)]
    scales = {"scale_pool4": [np.full(4, 0.01, np.float32)], "scale_pool3": [np.full(3, 0.0001, np.float32)]}
    assert list(caffemodel.state_dict({"score_fr": pair} | scales, at_once=True)) == [
        "score_fr.weight",
        "score_fr.bias",
    ]
    assert list(caffemodel.state_dict({"score_fr": pair}, at_once=True)) == [
        "score_fr.weight",
        "score_fr.bias",
    ]
    with pytest.raises(UserError, match="scale_pool4: they need an FCN with at_once"):
        caffemodel.state_dict({"score_fr": pair} | scales)
    with pytest.raises(UserError, match="scale_pool4 is not"):
        caffemodel.state_dict({"scale_pool4": [*scales["scale_pool4"], numbers(4)]}, at_once=True)
    scales["scale_pool3"][0][1] = 0.01
    with pytest.raises(UserError, match=r"scale_pool3 is not 0\.0001"):
        caffemodel.state_dict({"score_fr": pair} | scales, at_once=True)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ({"conv1_1": [numbers(2, 3, 3, 3)]}, "conv1_1 has 1 blobs"),
        ({"upscore": [numbers(2, 2, 4, 4), numbers(2)]}, "upscore has 2 blobs"),
        ({"conv1_1": [numbers(2, 3), numbers(2)]}, r"conv1_1 has a kernel of shape \(2, 3\)"),
        ({"fc6": [numbers(2, 50), numbers(2)]}, r"fc6 has a kernel of shape \(2, 50\)"),
        ({"conv1_1": [numbers(2, 3, 1, 1), numbers(2, 2)]}, r"conv1_1 has a bias of shape \(2, 2\)"),
        (
            {
                "conv1_1_bgrd": [numbers(1, 1, 1, 1), numbers(1)],
                "conv1_1": [numbers(1, 1, 1, 1), numbers(1)],
            },
            "two layers of these weights are conv1_1, one of them conv1_1$",
        ),
    ],
)
def test_a_layer_of_another_form_is_refused(layers: dict[str, list[Array]], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        caffemodel.state_dict(layers)


# -- whole nets -----------------------------------------------------------------------------------

UPSAMPLING = {
    32: {"upscore": 64},
    16: {"upscore2": 4, "upscore16": 32},
    8: {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16},
}


def narrow_net(stride: int, seed: int, upsampling: str, at_once: bool = False) -> fcn.FCN:
    torch.manual_seed(seed)
    net = fcn.FCN(3, stride, upsampling=upsampling, at_once=at_once).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return net


@pytest.mark.usefixtures("narrow_vgg16")
@pytest.mark.parametrize("upsampling", ["learned", "fixed"])
@pytest.mark.parametrize(("stride", "at_once"), [(32, False), (16, False), (8, False), (8, True)])
@pytest.mark.parametrize("old", [True, False], ids=["old", "new"])
def test_a_net_read_back_gives_the_same_logits(
    path: Path, stride: int, at_once: bool, upsampling: str, old: bool
) -> None:
    net, other = (narrow_net(stride, seed, upsampling, at_once) for seed in (1, 2))
    layers = blobs_of(net.state_dict())
    for name, size in UPSAMPLING[stride].items():  # a fixed layer has no kernel of its own; Caffe's file has
        layers.setdefault(name, [bilinear_kernel(3, size).float().numpy()])
    if at_once:
        layers |= {
            "scale_pool4": [np.full(5, 0.01, np.float32)],
            "scale_pool3": [np.full(4, 0.0001, np.float32)],
        }
    path.write_bytes(net_of(layers, old))
    image = torch.tensor(np.random.default_rng(0).integers(0, 256, (1, 3, 40, 53), np.uint8))
    with torch.no_grad():
        expected = net(image)
        assert not torch.equal(other(image), expected)
        other.load_state_dict(caffemodel.state_dict(caffemodel.read(path), at_once=at_once))
        assert torch.equal(other(image), expected)


@pytest.mark.usefixtures("narrow_vgg16")
def test_a_file_cut_between_two_layers_does_not_load(path: Path) -> None:
    net = narrow_net(32, 1, "learned")
    layers = blobs_of(net.state_dict())
    del layers["upscore"], layers["score_fr"]
    path.write_bytes(net_of(layers))
    with pytest.raises(RuntimeError, match=r"Missing key.*score_fr\.weight"):
        net.load_state_dict(caffemodel.state_dict(caffemodel.read(path)))


@pytest.mark.usefixtures("narrow_vgg16")
def test_a_kernel_that_is_not_bilinear_is_refused_by_a_fixed_net(path: Path) -> None:
    net = narrow_net(32, 1, "fixed")
    path.write_bytes(net_of(blobs_of(net.state_dict()) | {"upscore": [numbers(3, 3, 64, 64)]}))
    with pytest.raises(RuntimeError, match="not the bilinear kernel"):
        net.load_state_dict(caffemodel.state_dict(caffemodel.read(path)))


def test_the_reference_nets_layer_names_are_known() -> None:
    """As its net.py files have them: voc, pascalcontext, nyud-color and siftflow."""
    trunk = [f"conv{b}_{i}" for b, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)] + [
        "fc6",
        "fc7",
    ]
    scores = {
        32: ["score_fr"],
        16: ["score_fr", "score_pool4"],
        8: ["score_fr", "score_pool4", "score_pool3"],
    }
    for stride, suffix in itertools.product((32, 16, 8), ("", "_sem")):
        pair: Sequence[Array] = [numbers(2, 2, 1, 1), numbers(2)]
        layers = {name: list(pair) for name in trunk + [f"{score}{suffix}" for score in scores[stride]]}
        layers |= {f"{name}{suffix}": [numbers(2, 2, 4, 4)] for name in UPSAMPLING[stride]}
        state = caffemodel.state_dict(layers)
        names = [*trunk, *(f"{name}{suffix}" for name in (*scores[stride], *UPSAMPLING[stride]))]
        assert list(dict.fromkeys(name.rpartition(".")[0] for name in state)) == names


@pytest.mark.usefixtures("narrow_alexnet")
def test_fcn_alexnet_and_caffenet_are_read_from_their_files(path: Path) -> None:
    """FCN-AlexNet's file has fc6 as a convolution of 6x6, CaffeNet's as a matrix, with fc8 after it."""
    torch.manual_seed(1)
    net = fcn.FCN(21, 32, "alexnet").eval()
    whole = blobs_of(net.state_dict())
    path.write_bytes(net_of(whole | {"upscore": [bilinear_kernel(21, 63).float().numpy()]}))
    other = fcn.FCN(21, 32, "alexnet").eval()
    other.load_state_dict(caffemodel.state_dict(caffemodel.read(path), fc6=6))
    image = torch.tensor(np.random.default_rng(0).integers(0, 256, (1, 3, 40, 53), np.uint8))
    assert torch.equal(other(image), net(image))
    trunk = {name: layer for name, layer in whole.items() if name != "score_fr"}
    trunk |= {name: [trunk[name][0].reshape(7, -1), trunk[name][1]] for name in ("fc6", "fc7")}
    path.write_bytes(net_of(trunk | {"fc8": [numbers(1000, 7), numbers(1000)]}))
    state = caffemodel.state_dict(caffemodel.read(path), fc6=6)
    assert state.keys() == {name for name in net.state_dict() if not name.startswith("score")}
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in state.items())
