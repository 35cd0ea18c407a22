"""Bound of the scores of a net with one prediction per n×n pixels, computed without training.

The paper calls the bound approximate: a net that interpolates its scores can draw edges inside a block and exceed it.

source   CVPR paper (arXiv 1411.4038v2), appendix A; it does not say how masks are downsampled: here each block gets
         its most frequent class
"""

import numpy as np
import torch

from fcn.data.labels import VOID, UInt8
from fcn.data.split import Split
from fcn.evaluation import paper
from fcn.ladder import SCORES
from fcn.metrics.scores import Scores, confusion, scores

FACTORS = (128, 64, 32, 16, 8, 4)


def bounds(split: Split) -> dict[int, Scores]:
    """The scores of a split's own masks, downsampled by each factor and upsampled again."""
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
    """The mask with each block of factor×factor pixels set to its most frequent class.

    mask      (H, W) uint8, classes 0..C-1 or VOID; VOID is not counted
    returns   (H, W) uint8, classes 0..C-1; ties go to the lower class
    """
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % factor), (0, -width % factor)), constant_values=VOID)
    rows, columns = padded.shape[0] // factor, padded.shape[1] // factor
    blocks = padded.reshape(rows, factor, columns, factor)
    votes = np.stack([(blocks == c).sum((1, 3)) for c in range(classes)])
    coarse = votes.argmax(0).astype(np.uint8)
    fine: UInt8 = coarse.repeat(factor, 0).repeat(factor, 1)
    return fine[:height, :width]


def published(dataset: str) -> dict[int, float]:
    """The paper's mean IU by factor, in per cent; empty for data sets other than VOC."""
    return paper.BOUNDS if dataset == "voc" else {}


def table(rows: dict[int, Scores], published: dict[int, float]) -> str:
    """A table of the scores by factor, in per cent, with the paper's mean IU if it has one."""
    headers = [*SCORES.values(), *(["paper's mean IU"] if published else [])]
    lines = [f"{'factor':>8}" + "".join(f"{header:>17}" for header in headers)]
    for factor, row in rows.items():
        values = [*(100 * value for value in row.asdict().values()), *(published[f] for f in [factor] if published)]
        lines.append(f"{factor:8}" + "".join(f"{value:17.1f}" for value in values))
    return "\n".join([*lines, *([f"paper: {paper.BOUNDS_SOURCE}"] if published else [])])
