"""How well a net could do that sees only every n-th pixel: the bound that needs no training.

source   CVPR paper, sec. 5, upper bounds on mean IU by downsampling factor
"""

import numpy as np
import torch

from fcn.data import Split, UInt8
from fcn.labels import VOID
from fcn.metrics import Scores, confusion, scores

FACTORS = (128, 64, 32, 16, 8, 4)


def bounds(split: Split) -> dict[int, Scores]:
    """The scores of a split's own masks, brought down by each factor and back."""
    classes = len(split.labels.names)
    result = {}
    for factor in FACTORS:
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        for i in range(len(split)):
            mask = split.mask(i)
            coarse = torch.from_numpy(down_and_back(mask, factor, classes))
            counts += confusion(torch.from_numpy(mask.copy()), coarse, classes)
        result[factor] = scores(counts)
    return result


def down_and_back(mask: UInt8, factor: int, classes: int) -> UInt8:
    """The mask with each block of factor×factor pixels in the class that most of its pixels have.

    mask      (H, W) uint8, classes 0..C-1 or VOID; VOID has no say
    returns   (H, W) uint8, classes 0..C-1; of equally common classes the lower
    """
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % factor), (0, -width % factor)), constant_values=VOID)
    rows, columns = padded.shape[0] // factor, padded.shape[1] // factor
    blocks = padded.reshape(rows, factor, columns, factor)
    votes = np.stack([(blocks == c).sum((1, 3)) for c in range(classes)])
    coarse = votes.argmax(0).astype(np.uint8)
    fine: UInt8 = coarse.repeat(factor, 0).repeat(factor, 1)
    return fine[:height, :width]
