"""The paper's four scores, computed from a confusion matrix.

source   paper sec. 5, "Metrics"
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from fcn.data.labels import VOID
from fcn.runtime.errors import UserError


def confusion(mask: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """Confusion matrix of one or more images.

    mask, prediction   (..., H, W) integer, classes 0..C-1; VOID in the mask is not counted
    returns            (C, C) int64, row = truth, column = prediction
    raises             ValueError if shapes differ or a class is outside its range
    """
    if mask.shape != prediction.shape:
        raise ValueError(f"mask is {tuple(mask.shape)}, prediction is {tuple(prediction.shape)}")
    if not mask.numel():
        return torch.zeros(num_classes, num_classes, dtype=torch.int64, device=mask.device)
    truth, predicted = mask.flatten().long(), prediction.flatten().long()
    low, high, first, last = torch.stack([truth.min(), truth.max(), predicted.min(), predicted.max()]).tolist()
    if first < 0 or last >= num_classes:
        raise ValueError(f"prediction has classes {first}..{last}, not 0..{num_classes - 1}")
    if low < 0 or high > VOID:
        raise ValueError(f"mask has classes {low}..{high}, not 0..{num_classes - 1}")
    # Count all 256 mask values and drop void afterwards: five times faster than removing void pixels first.
    counts = torch.bincount(truth * num_classes + predicted, minlength=(VOID + 1) * num_classes).reshape(
        -1, num_classes
    )
    invalid = counts[num_classes:VOID].sum(1).nonzero()
    if len(invalid):
        raise ValueError(f"mask has class {num_classes + int(invalid[0])}, not 0..{num_classes - 1}")
    return counts[:num_classes]


@dataclass(frozen=True)
class Scores:
    """Fractions 0..1. The means leave out classes that occur in no mask.

    source   paper, footnote 10; earlier versions of the paper counted classes that are only predicted as 0
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iu: float
    frequency_weighted_iu: float

    def asdict(self) -> dict[str, float]:
        return asdict(self)


def class_iu(counts: Tensor) -> Tensor:
    """(C,) fp64 intersection over union of each class, NaN for a class without true pixels."""
    counts = counts.double()
    hits, truth = counts.diagonal(), counts.sum(1)
    return (hits / (truth + counts.sum(0) - hits)).where(truth > 0, torch.nan)


def class_accuracy(counts: Tensor) -> Tensor:
    """(C,) fp64 fraction of each class's pixels that are predicted correctly, NaN for a class without true pixels."""
    counts = counts.double()
    return counts.diagonal() / counts.sum(1)


def image_mean_iu(images: Tensor) -> Tensor:
    """(N,) fp64 mean IU of each image over the classes in its mask or prediction; NaN if its mask is all void.

    Unlike pixel accuracy, it is not dominated by a large sky. For a split, the paper's mean IU excludes classes that
    are in no mask; in one image, a predicted class that is not in the mask is an error and counts as 0.

    images   (N, 3, C) int64, as in `fcn.metrics.counting.Counts`
    """
    hits, truth, predicted = images.double().unbind(1)
    union = truth + predicted - hits
    return (hits / union).where(union > 0, torch.nan).nanmean(1)


def scores(counts: Tensor) -> Scores:
    """The four scores of a confusion matrix.

    raises   UserError if the matrix is all zero
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
