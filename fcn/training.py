"""The training of one net: loss, optimiser, and a generator of steps. It trains; its caller decides the rest."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fcn.data import UInt8
from fcn.errors import UserError
from fcn.labels import VOID
from fcn.layers import DenseConvolution
from fcn.models import FCN
from fcn.params import Params, Rung
from fcn.processes import ALONE, Group
from fcn.sampling import Drawn, Sampler
from fcn.weights import State

BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm
BLOCK = 1 << 20  # weights that a CPU updates at once
Piece = tuple[Tensor, Tensor, Tensor]  # a block: of a weight's master, of its gradient, and of the weight itself
SCORE_LAYERS = ("score_fr", "score_pool4", "score_pool3", "upscore")


@dataclass(frozen=True)
class Step:
    """What one optimiser step did.

    number   counted from 1
    loss     () tensor on the device: reading it waits for the step
    lr       the rate of weights in this step
    """

    number: int
    loss: Tensor
    lr: float
    images: list[str]


def loss_sum(logits: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy summed over valid pixels; zero if there are none.

    logits   (N, C, H, W)
    mask     (N, H, W) integer, classes 0..C-1 or VOID
    weight   (C,) per class, or None

    The two-dimensional loss has no deterministic gradient on CUDA: there pixels are laid out in a row,
    which on a CPU takes twice as long; and summed by itself, since its own sum there keeps to one multiprocessor.
    """
    if logits.dtype == torch.bfloat16:
        logits = logits.float()
    mask = mask.long()
    if logits.is_cuda:
        logits, mask = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]), mask.reshape(-1)
        return nn.functional.cross_entropy(logits, mask, weight, ignore_index=VOID, reduction="none").sum()
    return nn.functional.cross_entropy(logits, mask, weight, ignore_index=VOID, reduction="sum")


def valid_pixels(mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """() fp64, what a mean loss divides by: the valid pixels, or their weights."""
    valid = mask != VOID
    return valid.sum().double() if weight is None else weight.double()[mask[valid].long()].sum()


class Optimizer:
    """SGD or Adam over a net's weights; with bf16 over fp32 masters of them.

    Biases are never decayed, and under SGD learn twice as fast (reference: lr_mult 2, decay_mult 0);
    batch norm's scales and shifts are not decayed.

    masters   the weights in full precision by name: the net's own, or what its bf16 weights are rounded from
    blocks    masters by name, as they lie in memory, cut up
    dense     layers that may leave two factors instead of a gradient, by the name of their weights
    factors   what they left
    look      called before an update uses up the gradients

    A CPU is four times as fast with one block after the other, each cast, updated and rounded while it is in the
    cache; a GPU wants all at once.
    """

    def __init__(self, net: FCN, params: Params) -> None:
        self.look: Callable[[], object] | None = None
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
        """After it: takes what the layers left."""
        self.factors = {name: layer.factors[0] for name, layer in self.dense.items() if layer.factors}
        for layer in self.dense.values():
            layer.factors = None

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """What a backward pass left, by the weight's name and in its shape."""
        for name, parameter in self.trained.items():
            if name in self.factors:
                gradient = torch.empty_like(parameter)
                _row(gradient).copy_(torch.cat([*_products(*self.factors[name], len(self.blocks[name][0]))]))
                yield name, gradient
            elif parameter.grad is not None:
                yield name, parameter.grad

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update at rate `lr`; uses up the gradients."""
        if self.look:
            self.look()
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        pieces: list[Piece] = []
        for piece in self._pieces():
            if sum(len(master) for master, _, _ in [*pieces, piece]) > _size(piece[0]):
                self._update(pieces)
                pieces = []
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
            yield from zip(self.blocks[name], gradients, _blocks(parameter), strict=True)

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


def freeze(net: FCN) -> None:
    """Leaves only the score layers and the upsampling to be trained (the paper's 32s-fixed)."""
    for name, parameter in net.named_parameters():
        if not name.startswith(SCORE_LAYERS):
            parameter.requires_grad_(False)


def train_mode(net: FCN) -> None:
    """Training mode; the statistics of a frozen batch norm stay as they are."""
    net.train()
    for module in net.modules():
        if isinstance(module, BatchNorm) and not module.weight.requires_grad:
            module.eval()


def rate(rung: Rung, lr: float, number: int) -> float:
    """The rate of step `number`, counted from 1."""
    base = lr * rung.lr_factor
    if rung.schedule == "fixed":
        return base
    return float(base * (1 - (number - 1) / rung.iterations) ** 0.9)


def steps(
    net: FCN,
    optimizer: Optimizer,
    sampler: Sampler,
    params: Params,
    rung: Rung,
    *,
    weight: Tensor | None = None,
    start: int = 0,
    group: Group = ALONE,
) -> Iterator[Step]:
    """Trains from step `start` (0 at first) to the rung's last one, yielding after each."""
    joined = group.joined(net)
    share = group.share(params.batch_size)
    for number in range(start + 1, rung.iterations + 1):
        train_mode(net)
        drawn = sampler.draw(number - 1, share)
        lr = rate(rung, params.lr, number)
        loss = backward(joined, optimizer, drawn, params.loss, rung.accumulate, weight, group)
        optimizer.step(lr)
        yield Step(number, loss, lr, [image.name for image in drawn])


def _sent(array: UInt8, device: torch.device) -> Tensor:
    """On its way to the device; a GPU goes on with the step before meanwhile."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def backward(
    joined: FCN | DistributedDataParallel,
    optimizer: Optimizer,
    drawn: list[Drawn],
    reduction: str,
    accumulate: int,
    weight: Tensor | None,
    group: Group = ALONE,
) -> Tensor:
    """Gradients of one step's loss, the batch in `accumulate` passes; the passes' sizes don't matter.

    joined   the net, as `group` joined it
    drawn    this process's images of the batch
    returns  () the loss over the whole batch
    """
    net: FCN = joined.module if isinstance(joined, DistributedDataParallel) else joined
    device = next(net.parameters()).device
    masks = [_sent(image.mask.copy(), device) for image in drawn]
    # In fp64, so that a pixel's share is not rounded on its way.
    pixels = group.total(valid_pixels(torch.cat([mask.flatten() for mask in masks]), weight))
    scale = 1 / torch.where(pixels > 0, pixels, 1.0) if reduction == "mean" else torch.ones_like(pixels)
    total = torch.zeros_like(pixels)
    size = -(-len(drawn) // -(-accumulate // group.size))
    # Gradients that are summed, over passes or a group, have to be whole.
    optimizer.zero_grad(factors=joined is net and len(drawn) <= size)
    for first in range(0, len(drawn), size):
        part = drawn[first : first + size]
        shapes = {image.mask.shape for image in part}
        if len(shapes) > 1:
            raise UserError(
                "images of a pass differ in size; set data.size.train or data.crop, "
                f"or accumulate: {len(drawn) * group.size}, so that a pass has one image"
            )
        images = _sent(np.stack([image.image for image in part]), device)
        for dropout in (net.drop6, net.drop7):
            dropout.generators = [
                torch.Generator(device).manual_seed(image.seed + (dropout is net.drop7)) for image in part
            ]
        more = first + size < len(drawn)  # the last pass sends what all have gathered
        with joined.no_sync() if more and isinstance(joined, DistributedDataParallel) else nullcontext():
            logits = joined(images.permute(0, 3, 1, 2))
            loss = loss_sum(logits, torch.stack(masks[first : first + size]), weight) * scale
            (loss * group.size).backward()  # type: ignore[no-untyped-call]  # joined gradients are means
        total += loss.detach()
    optimizer.gather()
    for dropout in (net.drop6, net.drop7):
        dropout.generators = None
    return group.total(total)
