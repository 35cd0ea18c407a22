"""Averaged weights: which steps count, in which precision, and that training does not notice."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fcn.data.sampling import Sampler
from fcn.data.split import Split
from fcn.models import FCN
from fcn.params import Params
from fcn.training import steps
from fcn.training.average import Average
from fcn.training.optimizer import Optimizer

Small = Callable[..., Params]
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "bf16"])


class Training:
    """FCN-8s on the packed split, whose weights are averaged."""

    def __init__(self, packed: Path, experiment: Params, fraction: float | None) -> None:
        torch.manual_seed(0)
        self.net = FCN(8, 8, "slim", pad="same").to(memory_format=torch.channels_last)
        self.experiment, self.optimizer = experiment, Optimizer(self.net, experiment)
        self.average = Average(fraction, experiment.train.iterations)
        self.sampler = Sampler(Split(packed, "train"), experiment.data, seed=1, stride=8, batch_size=2)

    def run(self, start: int = 0, stop: int = 99) -> list[dict[str, Tensor]]:
        """The weights after each of the steps."""
        after = []
        parts = self.net, self.optimizer, self.sampler, self.experiment, self.experiment.train
        for step in steps.steps(*parts, start=start):
            self.average.update(step.number, self.net, self.optimizer)
            after.append(self.own())
            if step.number == stop:
                break
        return after

    def own(self) -> dict[str, Tensor]:
        return copied(self.optimizer.state(self.net))

    def weights(self) -> dict[str, Tensor]:
        return copied(self.average.weights(self.net, self.optimizer))


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@PRECISIONS
@pytest.mark.parametrize(("fraction", "last"), [(1.0, 8), (0.5, 4), (0.3, 2), (0.001, 1)])
def test_the_average_is_the_mean_of_the_last_weights_in_fp32(
    small: Small, packed: Path, precision: str, fraction: float, last: int
) -> None:
    training = Training(packed, small(precision=precision, **{"train.iterations": 8}), fraction)
    after, found = training.run(), training.weights()
    assert found.keys() == after[-1].keys()
    assert "bn1_1.running_var" in found
    for name, tensor in found.items():
        values = torch.stack([state[name].double() for state in after[-last:]])
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float32
            torch.testing.assert_close(tensor.double(), values.mean(0), rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(tensor.double(), values[-1])


def test_without_a_fraction_or_before_its_first_step_the_weights_are_the_nets_own(small: Small, packed: Path) -> None:
    experiment = small(**{"train.iterations": 8})
    for fraction, stop in ((None, 8), (0.5, 4)):
        training = Training(packed, experiment, fraction)
        training.run(stop=stop)
        assert not training.average.state
        assert equal(training.weights(), training.own())


@PRECISIONS
def test_training_goes_on_as_if_nothing_had_been_averaged_or_scored(small: Small, packed: Path, precision: str) -> None:
    experiment = small(precision=precision, **{"train.iterations": 6})
    plain, averaged = Training(packed, experiment, None), Training(packed, experiment, 1.0)
    plain.run()
    averaged.run(stop=4)
    own, mean = averaged.own(), averaged.weights()
    with averaged.average.applied(averaged.net, averaged.optimizer):
        seen = copied(averaged.net.state_dict())
        assert all(torch.equal(tensor, mean[name].to(tensor.dtype)) for name, tensor in seen.items())
        assert seen["conv3_1.weight"].dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert not equal(own, mean)
    assert equal(averaged.own(), own)
    averaged.run(start=4)
    assert equal(averaged.own(), plain.own())


@PRECISIONS
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_an_average_begun_in_the_middle_has_the_same_bits(
    small: Small, packed: Path, precision: str, stop: int
) -> None:
    experiment = small(precision=precision, **{"train.iterations": 6})
    whole, killed, resumed = (Training(packed, experiment, 0.7) for _ in range(3))
    whole.run()
    killed.run(stop=stop)
    saved = {name: tensor.contiguous() for name, tensor in killed.average.state.items()}  # as a file holds them
    resumed.optimizer.restore(resumed.net, killed.own(), copied(killed.optimizer.moments()))
    resumed.average.restore(saved, resumed.net)
    resumed.run(start=stop)
    assert equal(resumed.weights(), whole.weights())
    assert not equal(resumed.weights(), resumed.own())
