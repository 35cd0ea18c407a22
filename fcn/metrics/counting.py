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
from fcn.models import FCN
from fcn.runtime.distributed import SINGLE, Group

PIXELS = 1 << 18  # maximum pixels per batch; enough to keep two cores busy


@torch.no_grad()
def predictions(net: FCN, split: Split, group: Group = SINGLE) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Mask and prediction of each image, in order. In a group, each process takes every `group.size`-th batch.

    yields   (i, mask (H, W) uint8, prediction (H, W) int64), both in the size of the mask: logits are resized to
             the mask, never the mask to the logits
    """
    device = next(net.parameters()).device
    net.eval()
    for batch in islice(_batches(split), group.rank, None, group.size):
        images = torch.from_numpy(np.stack([split.image(i) for i in batch])).to(device)
        logits = net(images.permute(0, 3, 1, 2))
        for i, scores in zip(batch, logits, strict=True):
            mask = torch.from_numpy(split.mask(i).copy()).to(device)
            if mask.shape == scores.shape[1:]:
                yield i, mask, scores.max(0)[1]
            else:
                sides = zip(scores.shape[1:], mask.shape, strict=True)
                strips = resizing.resized(scores, *(resizing.axis(side, wanted) for side, wanted in sides))
                yield i, mask, torch.cat([strip.max(0)[1] for _, strip in strips])


@dataclass(frozen=True)
class Counts:
    """Pixel counts of a net on a split; void pixels are not counted.

    confusion   (C, C) int64, row = truth, column = prediction
    images      (N, 3, C) int64, for each image and class the pixels predicted correctly, true pixels, predicted pixels
    """

    confusion: Tensor
    images: Tensor


def count(net: FCN, split: Split, keep: Callable[[int, Tensor], object] | None = None, group: Group = SINGLE) -> Counts:
    """Counts pixels by true and predicted class, in total and per image; uses memory for 3 C numbers per image.

    keep   called with each image's index and prediction, (H, W) int64
    """
    classes = len(split.labels.names)
    device = next(net.parameters()).device
    total = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    images = torch.zeros(len(split), 3, classes, dtype=torch.int64, device=device)
    for i, mask, prediction in predictions(net, split, group):
        counts = confusion(mask, prediction, classes)
        total += counts
        images[i] = torch.stack([counts.diagonal(), counts.sum(1), counts.sum(0)])
        if keep:
            keep(i, prediction)
    return Counts(group.sum(total).cpu(), group.sum(images).cpu())


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
