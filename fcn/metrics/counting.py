"""Runs a net over a split and counts pixels by true and predicted class."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from fcn.data.split import Split
from fcn.kernels import resizing
from fcn.metrics.scores import confusion
from fcn.models import Net
from fcn.runtime.distributed import SINGLE, Group

PIXELS = 1 << 18  # maximum pixels per batch; enough to keep two cores busy


@torch.no_grad()
def predictions(net: Net, split: Split, group: Group = SINGLE) -> Iterator[tuple[int, list[Tensor], list[Tensor]]]:
    """Masks and predictions of each image, in order. In a group, each process takes every `group.size`-th batch.

    yields   (i, masks (H, W) uint8, predictions (H, W) int64), one per score path, in the size of the mask: logits
             are resized to the mask, never the mask to the logits
    """
    device = next(net.parameters()).device
    net.eval()
    for batch in islice(_batches(split), group.rank, None, group.size):
        images = torch.from_numpy(np.stack([split.image(i) for i in batch])).to(device)
        logits = net(images.permute(0, 3, 1, 2))
        for i, paths in zip(batch, logits, strict=True):
            masks = [torch.from_numpy(task.mask(i).copy()).to(device) for task in split.tasks()]
            scores = torch.split(paths, list(net.heads.values()))
            yield i, masks, [_prediction(one, mask.shape) for one, mask in zip(scores, masks, strict=True)]


def _prediction(logits: Tensor, size: torch.Size) -> Tensor:
    """(*size) int64: the class of each pixel, from (C, H, W) logits."""
    if size == logits.shape[1:]:
        return logits.max(0)[1]
    sides = zip(logits.shape[1:], size, strict=True)
    strips = resizing.resized(logits, *(resizing.axis(side, wanted) for side, wanted in sides))
    return torch.cat([strip.max(0)[1] for _, strip in strips])


@dataclass(frozen=True)
class Counts:
    """Pixel counts of a net on a split; void pixels are not counted.

    confusion   (C, C) int64, row = truth, column = prediction
    images      (N, 3, C) int64, for each image and class the pixels predicted correctly, true pixels, predicted pixels
    """

    confusion: Tensor
    images: Tensor


def count(
    net: Net, split: Split, keep: Callable[[int, list[Tensor]], object] | None = None, group: Group = SINGLE
) -> list[Counts]:
    """Counts pixels by true and predicted class, in total and per image; uses memory for 3 C numbers per image.

    keep     called with each image's index and its prediction by each score path, (H, W) int64
    returns  the counts of each score path
    """
    sizes, device = [len(task.labels.names) for task in split.tasks()], next(net.parameters()).device
    totals = [torch.zeros(classes, classes, dtype=torch.int64, device=device) for classes in sizes]
    images = [torch.zeros(len(split), 3, classes, dtype=torch.int64, device=device) for classes in sizes]
    for i, masks, predicted in predictions(net, split, group):
        for path, (mask, prediction) in enumerate(zip(masks, predicted, strict=True)):
            counts = confusion(mask, prediction, sizes[path])
            totals[path] += counts
            images[path][i] = torch.stack([counts.diagonal(), counts.sum(1), counts.sum(0)])
        if keep:
            keep(i, predicted)
    return [Counts(group.sum(a).cpu(), group.sum(b).cpu()) for a, b in zip(totals, images, strict=True)]


def _batches(split: Split) -> Iterator[list[int]]:
    """Indices of consecutive images of the same size, at most PIXELS pixels together."""
    batch: list[int] = []
    for i in range(len(split)):
        height, width = split.size(i)
        if batch and (split.size(batch[0]) != (height, width) or (len(batch) + 1) * height * width > PIXELS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
