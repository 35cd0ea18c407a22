"""`debug: true`: what flows through a net while it is trained, layer by layer.

Into MLflow, and into one picture: the new score layers move first, then VGG's late layers, its early
ones least; a layer that stands still, or moves alone, shows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fcn import files
from fcn.models import FCN
from fcn.training import Optimizer

COLUMNS = 20  # points over a rung
Row = dict[str, float]


class Watch:
    """Looks at some steps of a rung, and costs nothing in the others.

    rows   one a step that was looked at: `iteration`, and LAYER.WHAT with what being

        activation_mean, activation_std   of what the layer hands on, after its ReLU if it has one
        sparsity                          share of it that is zero
        weight_norm, gradient_norm        2-norms of the layer's weights and of their gradient
        update_ratio                      2-norm of what the step changed, by that of the weights
    """

    def __init__(self, net: FCN, optimizer: Optimizer, iterations: int) -> None:
        self.net, self.optimizer = net, optimizer
        self.every = max(1, iterations // COLUMNS)
        self.rows: list[Row] = []
        self._row: Row = {}
        self._before: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    def begin(self, number: int) -> None:
        """Prepares to look at step `number`, if it is one of those."""
        if number != 1 and number % self.every:
            return
        self._row = {"iteration": number}
        self._before = {name: tensor.detach().clone() for name, tensor in self.optimizer.masters.items()}
        for name, module in self.net.named_modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                self._hooks.append(self._module(name).register_forward_hook(self._activation(name)))
        for name, parameter in self.net.named_parameters():
            if parameter.requires_grad and name.endswith(".weight"):
                hook = parameter.register_post_accumulate_grad_hook(self._gradient(name))  # type: ignore[no-untyped-call]
                self._hooks.append(hook)

    @torch.no_grad()
    def end(self) -> Row | None:
        """The row of the step that was looked at, if one was."""
        if not self._row:
            return None
        for hook in self._hooks:
            hook.remove()
        for name, before in self._before.items():
            layer, _, kind = name.rpartition(".")
            if kind == "weight" and f"{layer}.gradient_norm" in self._row:
                norm = float(before.norm())
                self._row[f"{layer}.weight_norm"] = norm
                change = float((self.optimizer.masters[name] - before).norm())
                self._row[f"{layer}.update_ratio"] = change / norm if norm else 0.0
        row, self._row, self._before, self._hooks = self._row, {}, {}, []
        self.rows.append(row)
        return row

    def _module(self, name: str) -> nn.Module:
        """The layer's batch norm if it has one: the last before its ReLU."""
        norm = name.replace("conv", "bn").replace("fc", "bn")
        layers: dict[str, nn.Module] = dict(self.net.named_modules())
        return layers[norm] if norm in layers else layers[name]

    def _activation(self, name: str) -> Any:
        def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            values = output.detach().float()
            if name.startswith(("conv", "fc")):
                values = values.clamp(min=0)
                self._row[f"{name}.sparsity"] = float((values == 0).float().mean())
            self._row[f"{name}.activation_mean"] = float(values.mean())
            self._row[f"{name}.activation_std"] = float(values.std(correction=0))

        return look

    def _gradient(self, name: str) -> Any:
        def look(parameter: Tensor) -> None:
            assert parameter.grad is not None
            self._row[f"{name.rpartition('.')[0]}.gradient_norm"] = float(parameter.grad.float().norm())

        return look


def picture(rows: Sequence[Row], title: str, path: Path) -> None:
    """Gradient flow: how much of itself each layer changed at each step that was looked at."""
    from matplotlib.figure import Figure

    layers = [key.rpartition(".")[0] for key in rows[-1] if key.endswith(".update_ratio")]
    ratios = np.array([[row.get(f"{layer}.update_ratio", 0.0) for row in rows] for layer in layers])
    with np.errstate(divide="ignore"):
        values = np.log10(ratios)
    figure = Figure((2 + 0.35 * len(rows), 1.2 + 0.24 * len(layers)), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("#dddddd")  # stood still
    image = axes.imshow(np.where(np.isfinite(values), values, np.nan), aspect="auto", cmap="viridis")
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.set_xticks(range(len(rows)), [f"{row['iteration']:.0f}" for row in rows], fontsize=8, rotation=90)
    axes.set_xlabel("step")
    axes.set_title(f"{title}: how much of itself a layer changes in a step")
    figure.colorbar(image, label="log10 of update / weight")
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
