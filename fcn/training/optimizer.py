"""SGD and Adam over a net's weights, block by block, in fp32 or with bf16 weights over fp32 masters."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from fcn.models import FCN
from fcn.models.layers import BatchNorm, DenseConvolution
from fcn.models.weights import State
from fcn.params import Params

BLOCK = 1 << 20  # weights that a CPU updates at once
Piece = tuple[Tensor, Tensor, Tensor]  # a block: of a weight's master, of its gradient, and of the weight itself


class Optimizer:
    """SGD or Adam over a net's weights; with bf16 over fp32 masters of them.

    Biases are never decayed, and under SGD learn twice as fast (reference: lr_mult 2, decay_mult 0);
    batch norm's scales and shifts are not decayed.

    masters   the weights in full precision by name: the net's own, or what its bf16 weights are rounded from
    blocks    masters by name, as they lie in memory, cut up
    weights   what is rounded from them, likewise; the masters themselves in full precision
    dense     layers that may leave two factors instead of a gradient, by the name of their weights
    factors   what they left
    norms     of the gradients by the weight's name, which an update fills in if it is a dict

    A CPU is four times as fast with one block after the other, each cast, updated and rounded while it is in the
    cache; a GPU wants all at once.
    """

    def __init__(self, net: FCN, params: Params) -> None:
        self.norms: dict[str, float] | None = None
        trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
        # What they hold now: rounding a module gives its parameters new memory.
        exact = {name: p.detach() for name, p in trained.items()}
        # What is frozen has no master, and must not be saved as bf16 rounds it.
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
            # The product of factors lies in memory as the weights do.
            if layer.weight.is_contiguous(memory_format=torch.channels_last)
        }
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        # In rows: torch's fused update of a weight whose channels come last copies its gradient first, at four
        # dimensions, and mistakes it where the two lie differently (torch 2.14.1).
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
            if params.momentum:  # now: amid the first gradients it would tear the memory that they use again
                for tensor in self.learned.values():
                    self.optimizer.state[tensor]["momentum_buffer"] = torch.zeros_like(tensor)
        else:
            self.optimizer = torch.optim.Adam(groups, lr=0.0, betas=(params.momentum, 0.999), fused=True)

    def _groups(self, net: FCN, params: Params) -> list[tuple[list[Tensor], float, float]]:
        norm = {name for name, module in net.named_modules() if isinstance(module, BatchNorm)}
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        norms: list[Tensor] = []
        for name, tensor in self.learned.items():
            layer, _, kind = name.partition("[")[0].rpartition(".")
            (norms if layer in norm else biases if kind == "bias" else weights).append(tensor)
        twice = 2.0 if params.optimizer == "sgd" else 1.0
        return [(weights, params.weight_decay, 1.0), (biases, 0.0, twice), (norms, 0.0, 1.0)]

    def zero_grad(self, *, factors: bool = False) -> None:
        """Before a backward pass; `factors` says that fc6 and fc7 may leave theirs instead of a gradient."""
        for parameter in self.trained.values():
            parameter.grad = None
        self.factors = {}
        for layer in self.dense.values():
            layer.factors = [] if factors else None

    def gather(self) -> None:
        """After a backward pass: takes what the layers left."""
        self.factors = {}
        for name, layer in self.dense.items():
            if layer.factors:
                (self.factors[name],) = layer.factors
            layer.factors = None

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """What a backward pass left, by the weight's name and in its shape."""
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
        """One update at rate `lr`; uses up the gradients."""
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
                gradients = _blocks(_alike(parameter.grad, parameter))
            else:
                continue
            yield from zip(self.blocks[name], gradients, self.weights[name], strict=True)

    def _update(self, pieces: list[Piece]) -> None:
        for master, gradient, _ in pieces:
            master.grad = gradient.to(master.dtype)
        self.optimizer.step()  # what has no gradient now is left out
        for master, _, weight in pieces:
            master.grad = None
            if weight.dtype != master.dtype:
                weight.copy_(master)

    def state(self, net: FCN) -> State:
        """The net's state dict in full precision: masters in place of what was rounded."""
        exact = self.masters | self.frozen
        return {name: exact.get(name, tensor).detach() for name, tensor in net.state_dict().items()}

    def moments(self) -> State:
        """Momenta and the like, by the weight's name and theirs."""
        return {
            f"{name}:{kind}": tensor
            for name, learned in self.learned.items()
            for kind, tensor in self.optimizer.state.get(learned, {}).items()
            if isinstance(tensor, Tensor)
        }

    def restore(self, net: FCN, state: State, moments: State) -> None:
        """Back to what `state` and `moments` gave."""
        net.load_state_dict(state)
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(state[name])
        for key, tensor in moments.items():
            name, _, kind = key.rpartition(":")
            learned = self.learned[name]
            moved = tensor.to(learned.device)
            same = moved.shape == learned.shape  # all but Adam's count of steps; laid out as the weight is
            self.optimizer.state[learned][kind] = torch.empty_like(learned).copy_(moved) if same else moved


def _row(tensor: Tensor) -> Tensor:
    """(numel,), the values as they lie in memory."""
    values = tensor.detach()
    return values.as_strided((values.numel(),), (1,))


def _blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    """The row cut into blocks of whole filters."""
    weights = tensor[0].numel()
    return torch.split(_row(tensor), weights * max(1, _size(tensor) // weights))


def _size(tensor: Tensor) -> int:
    """How many values are updated at once."""
    return 1 << 28 if tensor.is_cuda else BLOCK


def _products(gradient: Tensor, x: Tensor, size: int) -> Iterator[Tensor]:
    """The blocks, of `size` values, of the gradient that is gradient.T @ x.

    Sixteen blocks at once: a product of few rows takes twice as long.
    """
    filters = size // x.shape[1]
    for first in range(0, gradient.shape[1], 16 * filters):
        yield from torch.split((gradient[:, first : first + 16 * filters].T @ x).flatten(), size)


def _alike(gradient: Tensor, weight: Tensor) -> Tensor:
    """A gradient that lies in memory as its weight does."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
