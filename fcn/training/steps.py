"""The training loop: loss, gradients and a generator of optimizer steps.

It only trains; the caller decides what to log, validate and save.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fcn.data.labels import VOID, UInt8
from fcn.data.sampling import SampledImage, Sampler
from fcn.models import Net
from fcn.models.layers import BatchNorm
from fcn.params import Params, Rung
from fcn.runtime.distributed import SINGLE, Group
from fcn.training.optimizer import Optimizer

SCORE_LAYERS = ("score_fr", "score_pool4", "score_pool3", "upscore")


@dataclass(frozen=True)
class Step:
    """Result of one optimizer step.

    number   counted from 1
    loss     () tensor on the device; reading it waits for the step to finish
    lr       learning rate of the weights
    images   names of this process's images
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

    On CUDA the two-dimensional loss has no deterministic gradient, so pixels are flattened first; on a CPU that
    would take twice as long. On CUDA the sum is separate, because the built-in reduction runs on a single
    multiprocessor.
    """
    if logits.dtype == torch.bfloat16:
        logits = logits.float()
    mask = mask.long()
    if logits.is_cuda:
        logits, mask = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]), mask.reshape(-1)
        return nn.functional.cross_entropy(logits, mask, weight, ignore_index=VOID, reduction="none").sum()
    return nn.functional.cross_entropy(logits, mask, weight, ignore_index=VOID, reduction="sum")


def valid_pixels(mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """() fp64 denominator of the mean loss: the number of valid pixels, or the sum of their class weights."""
    valid = mask != VOID
    return valid.sum().double() if weight is None else weight.double()[mask[valid].long()].sum()


def freeze(net: Net) -> None:
    """Freezes all but the score layers and the upsampling (FCN-32s-fixed in the paper)."""
    for name, parameter in net.named_parameters():
        if not any(part.startswith(SCORE_LAYERS) for part in name.split(".")):
            parameter.requires_grad_(False)


def train_mode(net: Net) -> None:
    """Sets training mode; frozen batch norm layers stay in evaluation mode."""
    net.train()
    for module in net.modules():
        if isinstance(module, BatchNorm) and not module.weight.requires_grad:
            module.eval()


def rate(rung: Rung, lr: float, number: int) -> float:
    """Learning rate of step `number`, counted from 1."""
    base = lr * rung.lr_factor
    if rung.schedule == "fixed":
        return base
    return float(base * (1 - (number - 1) / rung.iterations) ** 0.9)


def steps(
    net: Net,
    optimizer: Optimizer,
    sampler: Sampler,
    params: Params,
    rung: Rung,
    *,
    weight: Tensor | None = None,
    start: int = 0,
    group: Group = SINGLE,
) -> Iterator[Step]:
    """Trains the steps after step `start` (0 for a new rung) up to `rung.iterations`, yielding after each."""
    wrapped = group.wrap(net)
    share = group.local_range(params.batch_size)
    for number in range(start + 1, rung.iterations + 1):
        train_mode(net)
        sampled = sampler.draw(number - 1, share)
        lr = rate(rung, params.lr, number)
        loss = backward(wrapped, optimizer, sampled, params.loss, rung.accumulate, weight, group)
        optimizer.step(lr)
        yield Step(number, loss, lr, [image.name for image in sampled])


def _to_device(sampled: list[SampledImage], arrays: list[UInt8], device: torch.device) -> Tensor:
    """Images or masks as one tensor, (N, H, W, ...), on the device, flipped where required.

    The copy to a GPU is asynchronous, so it overlaps with the previous step.
    """
    batch = torch.from_numpy(np.stack(arrays))
    if device.type == "cuda":
        batch = batch.pin_memory().to(device, non_blocking=True)
    for image, pixels in zip(sampled, batch, strict=True):
        if image.mirrored:
            pixels.copy_(pixels.flip(1))
    return batch


def backward(
    wrapped: nn.Module,
    optimizer: Optimizer,
    sampled: list[SampledImage],
    reduction: str,
    accumulate: int,
    weight: Tensor | None,
    group: Group = SINGLE,
) -> Tensor:
    """Computes the gradients of one step, with the batch split into `accumulate` passes.

    The loss is scaled by the valid pixels of the whole batch, so the sizes of the passes do not matter.

    wrapped   the net, wrapped by `group.wrap`
    weight    (C,) per class of the first score path, or None; the losses of several paths are added
    sampled   this process's images of the batch
    returns   () loss of the whole batch
    """
    net = cast(Net, wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped)
    device = next(net.parameters()).device
    masks = [
        _to_device([image], [image.mask], device)[0].reshape(*image.mask.shape[:2], len(net.heads)) for image in sampled
    ]
    # In fp64, so that the weight of a pixel is not rounded.
    # One number per score path.
    pixels = group.sum(
        torch.stack(
            [
                valid_pixels(torch.cat([mask[..., path].flatten() for mask in masks]), None if path else weight)
                for path in range(len(net.heads))
            ]
        )
    )
    scale = 1 / torch.where(pixels > 0, pixels, 1.0) if reduction == "mean" else torch.ones_like(pixels)
    total = torch.zeros_like(pixels[0])
    size = -(-len(sampled) // -(-accumulate // group.size))
    # Gradients that are summed over passes or processes cannot be left as factors.
    optimizer.zero_grad(factors=wrapped is net and len(sampled) <= size)
    for first in range(0, len(sampled), size):
        part = sampled[first : first + size]
        images = _to_device(part, [image.image for image in part], device)
        for number, dropout in enumerate(net.dropouts):
            dropout.generators = [torch.Generator(device).manual_seed(image.seed + number) for image in part]
        more = first + size < len(sampled)  # only the last pass synchronizes gradients
        with wrapped.no_sync() if more and isinstance(wrapped, DistributedDataParallel) else nullcontext():
            logits = torch.split(wrapped(images.permute(0, 3, 1, 2)), list(net.heads.values()), 1)
            truth = torch.stack(masks[first : first + size]).unbind(-1)
            losses = [
                loss_sum(scores, mask, None if path else weight) * scale[path]
                for path, (scores, mask) in enumerate(zip(logits, truth, strict=True))
            ]
            loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
            (loss * group.size).backward()  # type: ignore[no-untyped-call]  # DistributedDataParallel averages gradients
        total += loss.detach()
    optimizer.gather()
    for dropout in net.dropouts:
        dropout.generators = None
    return group.sum(total)
