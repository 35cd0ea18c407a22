"""`debug: true`: activation, gradient and weight statistics of every layer during training.

They are logged to MLflow and drawn as a gradient flow figure. Expected: the new score layers change first, then
VGG's late layers, its early layers least. A layer that does not change, or is the only one to change, stands out.
A new score layer is zero and passes no gradient in its first step; layers below it then change by weight decay only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fcn.models import Net
from fcn.models.backbones import batch_norm
from fcn.runtime import files
from fcn.training.optimizer import Optimizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 20  # recorded steps per rung
Row = dict[str, float]


class LayerMonitor:
    """Records statistics at some steps of a rung, at no cost in the others.

    rows   one per recorded step: `iteration`, and LAYER.STATISTIC with these statistics

        activation_mean, activation_std   of the layer's output, after its ReLU if it has one
        sparsity                          fraction of the output that is zero
        weight_norm, gradient_norm        2-norms of the layer's weights and of their gradient
        update_ratio                      2-norm of the weight update, relative to that of the weights

    Where the border of 100 pixels is computed separately (fcn.kernels.border), activations are those of the part
    that depends on the image. With several processes, they are those of the leader's share of the batch.
    """

    def __init__(self, net: Net, optimizer: Optimizer, iterations: int) -> None:
        self.net, self.optimizer = net, optimizer
        self.every = max(1, iterations // COLUMNS)
        self.rows: list[Row] = []
        self._row: Row = {}
        self._before: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    def begin(self, number: int) -> None:
        """Installs hooks if step `number` is recorded."""
        if number != 1 and number % self.every:
            return
        self._row = {"iteration": number}
        self._before = {name: tensor.detach().clone() for name, tensor in self.optimizer.masters.items()}
        for name, module in self.net.named_modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                self._hooks.append(self._module(name).register_forward_hook(self._activation(name)))
        self.optimizer.norms = {}

    @torch.no_grad()
    def end(self) -> Row | None:
        """Removes the hooks and returns the row of the step, if it was recorded."""
        if not self._row:
            return None
        for hook in self._hooks:
            hook.remove()
        for name, norm in (self.optimizer.norms or {}).items():
            if name.endswith(".weight"):
                self._row[f"{name.removesuffix('.weight')}.gradient_norm"] = norm
        self.optimizer.norms = None
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
        """The last module before the layer's ReLU: its batch norm if it has one, else the layer."""
        layers: dict[str, nn.Module] = dict(self.net.named_modules())
        return layers.get(batch_norm(name), layers[name])

    def _activation(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            values = output.detach().float()
            if "score" not in name:
                values = values.clamp(min=0)
                self._row[f"{name}.sparsity"] = float((values == 0).float().mean())
            self._row[f"{name}.activation_mean"] = float(values.mean())
            self._row[f"{name}.activation_std"] = float(values.std(correction=0))

        return hook


def picture(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draws gradient flow: the gradient norm and the update ratio of each layer at each recorded step.

    The layers nearest to the loss are on top, batch norm layers at the bottom.
    """
    from matplotlib.figure import Figure

    layers = [key.rpartition(".")[0] for key in reversed(rows[-1]) if key.endswith(".update_ratio")]
    layers.sort(key=_is_norm)
    gradients = np.array([[row.get(f"{layer}.gradient_norm", 0.0) for row in rows] for layer in layers])
    ratios = np.array([[row.get(f"{layer}.update_ratio", 0.0) for row in rows] for layer in layers])
    norms = np.array([[row.get(f"{layer}.weight_norm", 0.0) for row in rows] for layer in layers])
    ratios[(norms == 0) & (gradients > 0)] = np.inf  # a layer that starts at zero
    figure = Figure((4 + 0.46 * len(rows), 1.4 + 0.2 * len(layers)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, name in (
        (left, gradients, "log10 of the gradient's norm"),
        (right, ratios, "log10 of the update's norm / the weights' norm"),
    ):
        _map(axes, values, name)
        axes.set_xticks(range(len(rows)), [f"{row['iteration']:.0f}" for row in rows], fontsize=7, rotation=90)
        axes.axhline(sum(not _is_norm(layer) for layer in layers) - 0.5, color="white", linewidth=3)
    left.set_yticks(range(len(layers)), layers, fontsize=8)
    figure.suptitle(f"{title}: gradient norm and relative update of each layer", fontsize=11)
    figure.supxlabel("step; grey: zero, red: weights that start at zero", fontsize=9)
    files.write_png(path, figure)


def _is_norm(layer: str) -> bool:
    """Whether a layer has the name of a batch norm: fcn.models.backbones.batch_norm."""
    name = layer.rpartition(".")[2]
    return name.startswith("bn") or name.endswith("/bn")


def _map(axes: "Axes", values: npt.NDArray[np.float64], name: str) -> None:
    from matplotlib import colormaps

    colours = colormaps["viridis"].with_extremes(under="#bbbbbb", over="#d62728")
    with np.errstate(divide="ignore"):
        logs = np.log10(values)
    finite = logs[np.isfinite(logs)]
    low, high = (finite.min(), finite.max()) if len(finite) else (-1, 0)
    clipped = np.clip(logs, low - 1, high + 1)  # matplotlib draws no colour for infinite values
    mesh = axes.imshow(clipped, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    axes.figure.colorbar(mesh, ax=axes, location="top", shrink=0.8, aspect=40).set_label(name, fontsize=9)
