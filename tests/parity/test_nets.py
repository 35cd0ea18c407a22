"""The four nets load torchfcn's state dicts strictly and give its logits."""

import pytest
import torch
from torch import Tensor

from fcn.models import FCN

from .conftest import Build
from .oracle import NETS, Measure, Pair, bgr, difference, image, rgb

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-12}
SIZES = [(1, 1), (31, 33), (64, 1), (97, 130), (224, 224)]
NATIVE = [(375, 500), (500, 375)]  # of VOC's photographs
KERNELS = {
    "32s": ["upscore"],
    "16s": ["upscore2", "upscore16"],
    "8s": ["upscore2", "upscore_pool4", "upscore8"],
}


@torch.no_grad()
def logits_agree(pair: Pair, height: int, width: int, measure: Measure, kind: str) -> None:
    dtype = pair.ours.score_fr.weight.dtype
    pixels = image(height, width, seed=height)
    theirs = pair.oracle(bgr(pixels, dtype))
    ours = pair.ours(rgb(pixels))
    assert ours.dtype == dtype
    assert ours.shape[2:] == (height, width)
    measure(f"logits {kind}", f"{pair.name} {height}x{width}", difference(ours, theirs), TOLERANCES[dtype])


def kind(pair: Pair) -> str:
    return {torch.float32: "fp32", torch.float64: "fp64"}[pair.ours.score_fr.weight.dtype]


@pytest.mark.parametrize(("height", "width"), SIZES, ids=lambda side: str(side))
def test_logits_of_the_same_weights_are_those_of_torchfcn(
    pair: Pair, height: int, width: int, measure: Measure
) -> None:
    logits_agree(pair, height, width, measure, kind(pair))


@pytest.mark.parametrize("pair", [("8s", "fp32")], indirect=True, ids=["8s fp32"])
@pytest.mark.parametrize(("height", "width"), NATIVE)
def test_logits_of_photographs_at_native_size_are_those_of_torchfcn(
    pair: Pair, height: int, width: int, measure: Measure
) -> None:
    logits_agree(pair, height, width, measure, kind(pair))


def test_logits_of_151_classes_are_those_of_torchfcn(build: Build, measure: Measure) -> None:
    logits_agree(build("8s", torch.float32, 151), 97, 130, measure, "fp32, 151 classes")


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["fp32", "fp64"])
@pytest.mark.parametrize("name", NETS)
def test_learned_upsampling_loads_kernels_strictly_and_gives_the_same_logits(
    name: str, dtype: torch.dtype, build: Build, measure: Measure
) -> None:
    pair = build(name, dtype, 5, narrow=True, upsampling="learned")
    kernels = {key: value for key, value in pair.oracle.state_dict().items() if key.startswith("up")}
    assert kernels
    assert all(torch.equal(pair.ours.state_dict()[key], kernel) for key, kernel in kernels.items())
    logits_agree(pair, 45, 67, measure, f"{kind(pair)}, learned upsampling")


@pytest.mark.parametrize(("name", "kernel"), [(name, k) for name, ks in KERNELS.items() for k in ks])
def test_fixed_upsampling_refuses_a_kernel_that_is_not_bilinear(name: str, kernel: str, build: Build) -> None:
    pair = build(name, torch.float32, 5, narrow=True)
    bilinear = pair.oracle.state_dict()[f"{kernel}.weight"]
    mixed = bilinear.clone()
    mixed[0, 1] = mixed[0, 0]
    for wrong in (bilinear * 1.001, mixed, bilinear[:, :, :-1, :-1], bilinear * torch.nan):
        refuses(
            pair.ours,
            pair.oracle.state_dict() | {f"{kernel}.weight": wrong},
            f"{kernel}.weight is not the bilinear",
        )


def refuses(net: FCN, state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        net.load_state_dict(state, strict=True)


@pytest.mark.parametrize("name", NETS)
def test_a_state_dict_with_a_layer_too_many_or_too_few_is_refused(name: str, build: Build) -> None:
    pair = build(name, torch.float32, 5, narrow=True)
    state = pair.oracle.state_dict()
    assert set(pair.ours.state_dict()) == {key for key in state if not key.startswith("up")}
    refuses(pair.ours, state | {"conv6_1.weight": torch.zeros(1)}, "Unexpected key")
    refuses(pair.ours, {key: value for key, value in state.items() if key != "score_fr.bias"}, "Missing key")
