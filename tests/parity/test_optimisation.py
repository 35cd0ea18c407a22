"""Our training steps are torchfcn's: its loss, its parameter groups, torch's SGD."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fcn.data.labels import VOID
from fcn.params import Params
from fcn.training.optimizer import Optimizer
from fcn.training.steps import backward, train_mode

from .conftest import Build
from .oracle import NETS, Measure, Pair, difference, drawn, gradients, groups, loss_sum

# fp64 training at full width takes minutes: these tests narrow both nets, torchfcn's by replacing
# its layers, ours by an entry in fcn.models.fcn.BACKBONES. Depth, padding and crops are VGG16's.
CLASSES, STEPS = 5, 20
LR = 3e-7  # on the summed loss of some thousand pixels: losses move by more than 1 % in 20 steps
IMAGES = [
    drawn(*size, CLASSES, void, seed)
    for seed, (size, void) in enumerate([((32, 40), 0.1), ((45, 27), 0.0), ((20, 61), 0.5), ((33, 33), 0.02)])
]


def train_oracle(pair: Pair, trainer: Any, **changes: float) -> list[float]:
    """Losses of 20 steps, an image each, of the oracle; `changes` make its recipe another one."""
    momentum = changes.pop("momentum", 0.99)
    optimizer = torch.optim.SGD(groups(pair.oracle, LR, **changes), momentum=momentum)
    losses = []
    for i in range(STEPS):
        optimizer.zero_grad()
        loss = loss_sum(trainer, pair.oracle, [IMAGES[i % len(IMAGES)]], torch.float64)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_ours(pair: Pair, heavy: Params) -> list[float]:
    optimizer = Optimizer(pair.ours, heavy)
    losses = []
    for i in range(STEPS):
        train_mode(pair.ours)
        losses.append(backward(pair.ours, optimizer, [IMAGES[i % len(IMAGES)]], heavy.loss, 1, None).item())
        optimizer.step(LR)
    return losses


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in net.named_parameters()}


def movements(pair: Pair, before: dict[str, Tensor]) -> dict[str, float]:
    """By name, the difference between what our steps and theirs did to a weight."""
    ours, theirs = weights(pair.ours), weights(pair.oracle)
    return {name: difference(ours[name] - before[name], theirs[name] - before[name]) for name in ours}


@pytest.mark.parametrize("name", NETS)
def test_the_heavy_recipe_follows_torchfcn_for_20_steps(
    name: str, build: Build, trainer: Any, heavy: Params, measure: Measure
) -> None:
    pair = build(name, torch.float64, CLASSES, narrow=True)
    before = weights(pair.oracle)
    theirs, ours = train_oracle(pair, trainer), train_ours(pair, heavy)
    last = len(IMAGES)  # the last pass over the images beside the first
    moved = [abs(b / a - 1) for a, b in zip(theirs[:last], theirs[-last:], strict=True)]
    assert min(moved) > 0.01, "losses hardly move: the comparison says nothing"
    worst = max(abs(a / b - 1) for a, b in zip(ours, theirs, strict=True))
    measure("loss of 20 heavy steps, fp64", name, worst, 1e-9)
    for key, error in movements(pair, before).items():
        measure("weights' change in them, fp64", f"{name} {key}", error, 1e-11)


@pytest.mark.parametrize("change", [{"decay": 0}, {"bias_decay": 5e-4}, {"bias_factor": 1}, {"momentum": 0.9}], ids=str)
def test_the_comparison_of_steps_notices_another_recipe(
    change: dict[str, float], build: Build, trainer: Any, heavy: Params
) -> None:
    pair = build("8s", torch.float64, CLASSES, narrow=True)
    before = weights(pair.oracle)
    train_oracle(pair, trainer, **change)
    train_ours(pair, heavy)
    assert max(movements(pair, before).values()) > 1e-8


def gradients_agree(pair: Pair, classes: int, trainer: Any, heavy: Params, measure: Measure, kind: str) -> None:
    """Those of one step, both nets in evaluation mode: without batch norm that only means dropout off."""
    dtype, one = pair.ours.score_fr.weight.dtype, drawn(21, 34, classes, 0.1, seed=5)
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-11}[dtype]
    optimizer = Optimizer(pair.ours, heavy)
    ours = backward(pair.ours, optimizer, [one], heavy.loss, 1, None)
    theirs = loss_sum(trainer, pair.oracle, [one], dtype)
    theirs.backward()  # type: ignore[no-untyped-call]
    measure(f"loss of first step, {kind}", pair.name, difference(ours, theirs), tolerance)
    expected, found = dict(gradients(pair.oracle)), dict(optimizer.gradients())
    assert found.keys() == expected.keys()
    for key, gradient in found.items():
        error = difference(gradient, expected[key])
        measure(f"gradients of first step, {kind}", f"{pair.name} {key}", error, tolerance)


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float32, "fp32"), (torch.float64, "fp64")], ids=["fp32", "fp64"])
@pytest.mark.parametrize("name", NETS)
def test_gradients_of_the_first_step_are_those_of_torchfcn(
    name: str, dtype: torch.dtype, kind: str, build: Build, trainer: Any, heavy: Params, measure: Measure
) -> None:
    gradients_agree(build(name, dtype, CLASSES, narrow=True), CLASSES, trainer, heavy, measure, kind)


# Not in fp32: of the ten million units of a wide net some are within rounding of zero, or of their
# neighbour in a pooling window. One that falls on the other side moves every gradient below it:
# torchfcn's own in fp32 are up to 1e-2 from its own in fp64.
@pytest.mark.parametrize("pair", [("8s", "fp64")], indirect=True, ids=["8s fp64"])
def test_gradients_at_full_width_are_those_of_torchfcn(
    pair: Pair, trainer: Any, heavy: Params, measure: Measure
) -> None:
    gradients_agree(pair, 21, trainer, heavy, measure, "fp64, full width")
    pair.oracle.zero_grad()
    pair.ours.zero_grad()


@pytest.mark.parametrize(("accumulate", "mixed"), [(20, True), (20, False), (6, False), (1, False)])
def test_an_accumulated_batch_has_the_gradient_of_its_mean_over_all_valid_pixels(
    accumulate: int, mixed: bool, build: Build, trainer: Any, heavy: Params, measure: Measure
) -> None:
    pair = build("8s", torch.float64, CLASSES, narrow=True)
    sizes = [(17 + i, 40 - i) if mixed else (24, 31) for i in range(20)]
    batch = [drawn(*size, CLASSES, i / 19, seed=i) for i, size in enumerate(sizes)]  # the last one is all void
    pixels = sum(int((one.mask != VOID).sum()) for one in batch)
    theirs = loss_sum(trainer, pair.oracle, batch, torch.float64) / pixels
    theirs.backward()  # type: ignore[no-untyped-call]
    optimizer = Optimizer(pair.ours, heavy)
    ours = backward(pair.ours, optimizer, batch, "mean", accumulate, None)
    case = f"{accumulate} passes" + (", sizes mixed" if mixed else "")
    measure("loss of an accumulated batch, fp64", case, difference(ours, theirs), 1e-12)
    expected, found = dict(gradients(pair.oracle)), dict(optimizer.gradients())
    assert found.keys() == expected.keys()
    for key, gradient in found.items():
        measure("gradients of an accumulated batch, fp64", f"{case} {key}", difference(gradient, expected[key]), 1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_batch_that_is_all_void_has_no_loss_and_no_gradient(reduction: str, build: Build, heavy: Params) -> None:
    ours = build("8s", torch.float64, CLASSES, narrow=True).ours
    batch = [drawn(24, 31, CLASSES, 1.0, seed=i) for i in range(4)]
    optimizer = Optimizer(ours, heavy)
    assert backward(ours, optimizer, batch, reduction, 2, None).item() == 0
    found = dict(optimizer.gradients())
    assert found.keys() == dict(ours.named_parameters()).keys()
    assert not any(gradient.any() for gradient in found.values())  # NaN counts as any
