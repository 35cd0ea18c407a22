"""The paper's four scores, from counts of pixels.

source   paper sec. 5, "Metrics"
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from fcn.errors import UserError
from fcn.labels import VOID


def confusion(mask: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """How often each class was taken for each.

    mask, prediction   (..., H, W) integer, classes 0..C-1; VOID in the mask is not counted
    returns            (C, C) int64, row = truth, column = prediction
    raises             ValueError if shapes differ or a class is outside its range
    """
    if mask.shape != prediction.shape:
        raise ValueError(f"mask is {tuple(mask.shape)}, prediction is {tuple(prediction.shape)}")
    valid = mask != VOID
    truth, found = mask[valid].long(), prediction[valid].long()
    if truth.numel() and not (int(truth.min()) >= 0 and int(truth.max()) < num_classes):
        raise ValueError(f"mask has classes {int(truth.min())}..{int(truth.max())}, not 0..{num_classes - 1}")
    if found.numel() and not (int(found.min()) >= 0 and int(found.max()) < num_classes):
        raise ValueError(f"prediction has classes outside 0..{num_classes - 1}")
    return torch.bincount(truth * num_classes + found, minlength=num_classes**2).reshape(num_classes, -1)


@dataclass(frozen=True)
class Scores:
    """Fractions 0..1; the means leave out classes that no mask has.

    source   paper's footnote 10: earlier it counted classes that are only predicted, as 0
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iu: float
    frequency_weighted_iu: float

    def asdict(self) -> dict[str, float]:
        return asdict(self)


def class_iu(counts: Tensor) -> Tensor:
    """(C,) fp64 intersection over union of each class, NaN for a class without pixels in the truth."""
    counts = counts.double()
    hits, truth = counts.diagonal(), counts.sum(1)
    return (hits / (truth + counts.sum(0) - hits)).where(truth > 0, torch.nan)


def class_accuracy(counts: Tensor) -> Tensor:
    """(C,) fp64 share of each class's pixels that were found, NaN for a class without pixels."""
    counts = counts.double()
    return counts.diagonal() / counts.sum(1)


def scores(counts: Tensor) -> Scores:
    """The four scores of a confusion matrix.

    raises   UserError if nothing was counted
    """
    total = counts.sum().double()
    if not total:
        raise UserError("no pixel can be scored: every mask of the split is void")
    iu, truth = class_iu(counts), counts.sum(1).double()
    return Scores(
        pixel_accuracy=float(counts.diagonal().sum() / total),
        mean_accuracy=float(class_accuracy(counts).nanmean()),
        mean_iu=float(iu.nanmean()),
        frequency_weighted_iu=float((truth * iu).nansum() / total),
    )
