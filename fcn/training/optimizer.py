"""SGD and Adam, in fp32 or with bf16 weights and fp32 master weights; updates run block by block."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from fcn.kernels.dense import DenseConvolution
from fcn.models import Net, State
from fcn.models.layers import BatchNorm
from fcn.params import Params

BLOCK = 1 << 20  # weights per block on a CPU
Piece = tuple[Tensor, Tensor, Tensor]  # the same block of the master weight, of its gradient and of the weight


class Optimizer:
    """SGD or Adam over a net's weights, with fp32 master weights if the net is trained in bf16.

    Biases have no weight decay, and with SGD twice the learning rate (reference: lr_mult 2, decay_mult 0).
    Scales and shifts of batch norm have no weight decay.

    masters   weights in full precision, by name: the net's own in fp32, or those its bf16 weights are rounded from
    blocks    masters by name, flattened in memory order and split into blocks
    weights   the net's weights, split likewise; the same memory as the masters in fp32
    dense     layers that may return two factors instead of a weight gradient, by the name of the weight
    factors   the factors they returned, by the name of the weight
    norms     gradient norms by name, filled in by `step` if it is a dict

    On a CPU, updating block by block is four times faster, because each block is cast, updated and rounded while it
    is in the cache. A GPU updates everything at once.
    """

    def __init__(self, net: Net, params: Params) -> None:
        self.norms: dict[str, float] | None = None
        trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
        # Taken before rounding: module.to gives the parameters new memory.
        exact = {name: p.detach() for name, p in trained.items()}
        # Frozen weights have no master, but are saved in full precision, not as rounded to bf16.
        self.frozen = {name: p.detach() for name, p in net.named_parameters() if not p.requires_grad}
        if params.precision == "bf16":
            for module in net.modules():
                if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                    module.to(torch.bfloat16)
        self.trained = trained
        self.masters: State = {
            name: exact[name] if p.dtype == torch.bfloat16 else p.detach() for name, p in trained.items()
        }
        self.blocks = {name: _blocks(master) for name, master in self.masters.items()}
        self.weights = {name: _blocks(p) for name, p in trained.items()}
        self.dense = {
            f"{name}.weight": layer
            for name, layer in net.named_modules()
            if isinstance(layer, DenseConvolution) and f"{name}.weight" in trained
            # The product of the factors must have the memory layout of the weights.
            if layer.weight.is_contiguous(memory_format=torch.channels_last)
        }
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        # Flattened: for 4-dimensional channels_last weights, torch's fused update copies the gradient first, and is
        # wrong if the memory layouts of weight and gradient differ (torch 2.14.1).
        self.learned: State = {
            f"{name}[{i}]": block for name, blocks in self.blocks.items() for i, block in enumerate(blocks)
        }
        groups = [
            {"params": weights, "lr": 0.0, "weight_decay": decay, "factor": factor}
            for weights, decay, factor in self._groups(net, params)
            if weights
        ]
        self.optimizer: torch.optim.Optimizer
        if params.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, lr=0.0, momentum=params.momentum, fused=True)
            if params.momentum:  # now: between the first gradients they would fragment memory
                for tensor in self.learned.values():
                    self.optimizer.state[tensor]["momentum_buffer"] = torch.zeros_like(tensor)
        else:
            self.optimizer = torch.optim.Adam(groups, lr=0.0, betas=(params.momentum, 0.999), fused=True)

    def _groups(self, net: Net, params: Params) -> list[tuple[list[Tensor], float, float]]:
        norm = {name for name, module in net.named_modules() if isinstance(module, BatchNorm)}
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        norms: list[Tensor] = []
        for name, tensor in self.learned.items():
            layer, _, kind = name.partition("[")[0].rpartition(".")
            (norms if layer in norm else biases if kind == "bias" else weights).append(tensor)
        bias_factor = 2.0 if params.optimizer == "sgd" else 1.0
        return [(weights, params.weight_decay, 1.0), (biases, 0.0, bias_factor), (norms, 0.0, 1.0)]

    def zero_grad(self, *, factors: bool = False) -> None:
        """Call before a backward pass. With `factors`, fc6 and fc7 return factors instead of a weight gradient."""
        for parameter in self.trained.values():
            parameter.grad = None
        self.factors = {}
        for layer in self.dense.values():
            layer.factors = [] if factors else None

    def gather(self) -> None:
        """Call after a backward pass: collects the factors from the layers."""
        self.factors = {}
        for name, layer in self.dense.items():
            if layer.factors:
                (self.factors[name],) = layer.factors
            layer.factors = None

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Gradients of the last backward pass: (name, gradient in the shape of the weight)."""
        for name, parameter in self.trained.items():
            if name in self.factors:
                gradient = torch.empty_like(parameter)
                products = _products(*self.factors[name], len(self.blocks[name][0]))
                for block, product in zip(_blocks(gradient), products, strict=True):
                    block.copy_(product)
                yield name, gradient
            elif parameter.grad is not None:
                yield name, parameter.grad

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update with learning rate `lr`; the gradients are discarded."""
        if self.norms is not None:
            self.norms |= {name: float(gradient.float().norm()) for name, gradient in self.gradients()}
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        pieces: list[Piece] = []
        size = 0
        for piece in self._pieces():
            size += len(piece[0])
            if size > _size(piece[0]):
                self._update(pieces)
                pieces, size = [], len(piece[0])
            pieces.append(piece)
        self._update(pieces)
        self.zero_grad()

    def _pieces(self) -> Iterator[Piece]:
        for name, parameter in self.trained.items():
            gradients: Iterable[Tensor]
            if name in self.factors:
                gradients = _products(*self.factors[name], len(self.blocks[name][0]))
            elif parameter.grad is not None:
                gradients = _blocks(_with_layout_of(parameter.grad, parameter))
            else:
                continue
            yield from zip(self.blocks[name], gradients, self.weights[name], strict=True)

    def _update(self, pieces: list[Piece]) -> None:
        for master, gradient, _ in pieces:
            master.grad = gradient.to(master.dtype)
        self.optimizer.step()  # skips all weights without a gradient, that is, all other blocks
        for master, _, weight in pieces:
            master.grad = None
            if weight.dtype != master.dtype:
                weight.copy_(master)

    def state(self, net: Net) -> State:
        """The net's state dict in full precision: master weights instead of rounded ones."""
        exact = self.masters | self.frozen
        return {name: exact.get(name, tensor).detach() for name, tensor in net.state_dict().items()}

    def moments(self) -> State:
        """The optimizer's state tensors (momentum and the like), named WEIGHT:KIND."""
        return {
            f"{name}:{kind}": tensor
            for name, learned in self.learned.items()
            for kind, tensor in self.optimizer.state.get(learned, {}).items()
            if isinstance(tensor, Tensor)
        }

    def restore(self, net: Net, state: State, moments: State) -> None:
        """Restores the results of `state` and `moments`."""
        net.load_state_dict(state)
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(state[name])
        for key, tensor in moments.items():
            name, _, kind = key.rpartition(":")
            learned = self.learned[name]
            on_device = tensor.to(learned.device)
            # All but Adam's step count have the weight's shape, and get its memory layout.
            same = on_device.shape == learned.shape
            self.optimizer.state[learned][kind] = torch.empty_like(learned).copy_(on_device) if same else on_device


def _row(tensor: Tensor) -> Tensor:
    """(numel,) view of the values in memory order."""
    values = tensor.detach()
    return values.as_strided((values.numel(),), (1,))


def _blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    """The flattened tensor, split into blocks of whole filters."""
    weights = tensor[0].numel()
    return torch.split(_row(tensor), weights * max(1, _size(tensor) // weights))


def _size(tensor: Tensor) -> int:
    """Values per block."""
    return 1 << 28 if tensor.is_cuda else BLOCK


def _products(gradient: Tensor, x: Tensor, size: int) -> Iterator[Tensor]:
    """The weight gradient, gradient.T @ x, in blocks of `size` values.

    Sixteen blocks are multiplied at once: a matrix product with few rows takes twice as long.
    """
    filters = size // x.shape[1]
    for first in range(0, gradient.shape[1], 16 * filters):
        yield from torch.split((gradient[:, first : first + 16 * filters].T @ x).flatten(), size)


def _with_layout_of(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient in the memory layout of its weight."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
