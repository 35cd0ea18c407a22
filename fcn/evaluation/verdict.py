"""Checks of the scores against pixel counts: classes that cannot be scored, and nets no better than a constant answer.

The best constant answer is the most frequent class everywhere. Its pixel accuracy is that class's share of the pixels,
its mean IU that share divided by the number of classes in the masks. A net of higher pixel accuracy has a higher mean
IU too, because no union is larger than all pixels.
"""

from collections.abc import Sequence

FEW_IMAGES = 20  # training images that show a class; fewer are listed as a likely cause
WEAK = 0.1  # a net is weak below this fraction of the way from the best constant answer's mean IU to 1


def missing(names: Sequence[str], truth: Sequence[int]) -> list[str]:
    """The classes that are in no mask of the split; they are excluded from the means."""
    return [name for name, pixels in zip(names, truth, strict=True) if not pixels]


def warning(
    names: Sequence[str],
    truth: Sequence[int],
    predicted: Sequence[int],
    *,
    pixel_accuracy: float,
    mean_iu: float,
    stride: int,
    images: int,
) -> str:
    """A sentence that compares a bad net with the best constant answer and lists likely causes; empty for a good net.

    A net is bad if it gives one constant answer; if it is below the best one (neither score is above that answer's); or
    if it is weak: its mean IU is above, by less than WEAK, and its pixel accuracy is not. If the masks hold only one
    class, scores cannot tell nets apart, and the sentence says so.

    names      class names
    truth      pixels of each class in the masks
    predicted  pixels of each class in the predictions
    stride     of the net, in pixels
    images     number of training images that show the class shown by most
    """
    share, present = max(truth) / sum(truth), sum(pixels > 0 for pixels in truth)
    common, constant = names[list(truth).index(max(truth))], share / present
    if present == 1:
        return (
            f"was scored on masks of {common} alone: the constant answer {common} gets 100 % in every score, so the "
            "scores say nothing about how well it separates classes"
        )
    answers = [name for name, pixels in zip(names, predicted, strict=True) if pixels]
    few = [f"few images (no class is in more than {images} of the training split)"] if images < FEW_IMAGES else []
    fine = f"structures finer than the stride of {stride} pixels (see `fcn bound`)"
    rate = "a rate that does not fit the loss and the optimizer (lr, lr_factor)"
    data = [
        "masks that do not fit their images (look at metrics/figures/resize/samples.png)",
        "weights that expect another model.preprocessing",
    ]
    steps = "too few iterations"
    if len(answers) == 1:
        verdict, causes = f"gives one constant answer, {answers[0]} everywhere", [*few, rate, steps, fine, *data]
    elif pixel_accuracy > share or mean_iu - constant >= WEAK * (1 - constant):
        return ""
    elif mean_iu <= constant:
        verdict = (
            f"is below the constant answer {common}: pixel accuracy {_percent(pixel_accuracy)} of {_percent(share)}, "
            f"mean IU {_percent(mean_iu)} of {_percent(constant)}"
        )
        causes = [*few, rate, steps, fine, *data]
    else:
        verdict = (
            f"is weak: mean IU {_percent(mean_iu)}, above the {_percent(constant)} of the constant answer {common}, "
            f"but pixel accuracy {_percent(pixel_accuracy)}, not above its {_percent(share)}"
        )
        causes = [*few, steps, fine, rate]
    return f"{verdict}; likely causes: {', '.join(causes[:-1])}, or {causes[-1]}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
