"""What a net says of a split, image by image, and how often it is right."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from fcn.data.split import Split
from fcn.metrics.scores import confusion
from fcn.models import FCN, layers
from fcn.runtime.distributed import SINGLE, Group

PIXELS = 1 << 18  # of the images that go through the net together: enough to keep two cores busy


@torch.no_grad()
def predictions(net: FCN, split: Split, group: Group = SINGLE) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Mask and prediction of each image, in order; of every `group.size`-th handful in a group.

    yields   (i, mask, prediction): both (H, W), uint8 and int64, in the mask's size; logits are
             brought to it, never the mask to the logits
    """
    device = next(net.parameters()).device
    net.eval()
    for handful in islice(_handfuls(split), group.rank, None, group.size):
        images = torch.from_numpy(np.stack([split.image(i) for i in handful])).to(device)
        logits = net(images.permute(0, 3, 1, 2))
        for i, scores in zip(handful, logits, strict=True):
            mask = torch.from_numpy(split.mask(i).copy()).to(device)
            if mask.shape == scores.shape[1:]:
                yield i, mask, scores.max(0)[1]
            else:
                sides = zip(scores.shape[1:], mask.shape, strict=True)
                strips = layers.resized(scores, *(layers.axis(own, wanted) for own, wanted in sides))
                yield i, mask, torch.cat([strip.max(0)[1] for _, strip in strips])


def count(net: FCN, split: Split, keep: Callable[[int, Tensor], object] | None = None, group: Group = SINGLE) -> Tensor:
    """(C, C) int64 confusion matrix over the whole split, row = truth; memory does not grow with the split.

    keep   is given each image's number and prediction, (H, W) int64
    """
    classes = len(split.labels.names)
    device = next(net.parameters()).device
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    for i, mask, prediction in predictions(net, split, group):
        counts += confusion(mask, prediction, classes)
        if keep:
            keep(i, prediction)
    return group.sum(counts).cpu()


def _handfuls(split: Split) -> Iterator[list[int]]:
    """Neighbours of the same size, as many as fit."""
    handful: list[int] = []
    for i in range(len(split)):
        height, width = split.size(i)
        if handful and (split.size(handful[0]) != (height, width) or (len(handful) + 1) * height * width > PIXELS):
            yield handful
            handful = []
        handful.append(i)
    if handful:
        yield handful
