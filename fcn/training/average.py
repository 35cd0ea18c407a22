"""The average of a net's weights over the last steps of a rung."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fcn.models import Net, State
from fcn.training.optimizer import Optimizer


class Average:
    """Mean of the weights after each of the last steps: `average: 0.25` counts the last quarter of the iterations.

    A uniform mean, unlike an exponential one, has no decay constant that must fit the number of steps. It suits
    `schedule: fixed`; with poly the last weights are near each other already. In fp32, also if the net is trained in
    bf16: one more copy of the weights in memory and in a checkpoint, and a second one while the net is validated.

    Running statistics of batch norm are averaged like the weights (torch's AveragedModel with use_buffers=True). The
    source computes them anew in a pass over the training images, which every validation would have to repeat; on
    scenes the mean IU of the two differs by at most 0.0015 (FCN-32s, 400 steps, both schedules, two seeds).

    first    the first step that counts, from 1
    state    the mean so far, as `Optimizer.state`; empty before `first`
    source   Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018, which
             counts one step per epoch
    """

    def __init__(self, fraction: float | None, iterations: int) -> None:
        self.first = iterations + 1 - (max(1, round(fraction * iterations)) if fraction else 0)
        self.state: State = {}

    @torch.no_grad()
    def update(self, number: int, net: Net, optimizer: Optimizer) -> None:
        """Counts the weights after step `number`; to be called after every step."""
        if number < self.first:
            return
        state = optimizer.state(net)
        if number == self.first:
            self.state = {name: tensor.clone() for name, tensor in state.items()}
        for name, mean in self.state.items():
            if mean.is_floating_point():
                mean.lerp_(state[name], 1 / (number - self.first + 1))
            else:  # batch norm's number of steps
                mean.copy_(state[name])

    def restore(self, state: State, net: Net) -> None:
        """Restores the mean of a checkpoint, on the net's device and in its memory layout."""
        like = net.state_dict()
        self.state = {
            name: torch.empty_like(like[name], dtype=tensor.dtype).copy_(tensor) for name, tensor in state.items()
        }

    def weights(self, net: Net, optimizer: Optimizer) -> State:
        """The mean, or the net's own weights in full precision if no step has been counted."""
        return self.state or optimizer.state(net)

    @contextmanager
    def applied(self, net: Net, optimizer: Optimizer) -> Iterator[None]:
        """Inside the context the net has the averaged weights, rounded to bf16 if it is trained in bf16."""
        if not self.state:
            yield
            return
        own = {name: tensor.clone() for name, tensor in optimizer.state(net).items()}
        net.load_state_dict(self.state)
        try:
            yield
        finally:
            net.load_state_dict(own)
