"""What counts of pixels say beside the scores: which classes cannot be scored, and which nets a constant answer beats.

The best constant answer is the commonest class everywhere: its pixel accuracy is that class's share of the pixels, its
mean IU that share divided by the number of classes in the masks. A net of higher pixel accuracy has a higher mean IU
too, since no union is larger than all pixels.
"""

from collections.abc import Sequence

FEW = 20  # training images that show a class, below which their number is named as a cause
WEAK = 0.1  # of the way from the best constant answer's mean IU to 1, below which a net is called weak


def missing(names: Sequence[str], truth: Sequence[int]) -> list[str]:
    """The classes that are in no mask of the split; the means leave them out."""
    return [name for name, pixels in zip(names, truth, strict=True) if not pixels]


def warning(
    names: Sequence[str],
    truth: Sequence[int],
    found: Sequence[int],
    *,
    pixel_accuracy: float,
    mean_iu: float,
    stride: int,
    images: int,
) -> str:
    """How a net compares with the best constant answer, and likely causes, in a sentence; empty if it does well.

    A net gives one constant answer, or is below the best one (neither score is above that answer's), or is weak: its
    mean IU is above, by less than WEAK, and its pixel accuracy is not. Where the masks hold one class alone, no scores
    tell one net from another, and that is said.

    names    of the classes
    truth    pixels of each class in the masks
    found    pixels of each class in the predictions
    stride   of the net, in pixels
    images   training images that show the class that most of them show
    """
    share, present = max(truth) / sum(truth), sum(pixels > 0 for pixels in truth)
    common, constant = names[list(truth).index(max(truth))], share / present
    if present == 1:
        return (
            f"was scored on masks of {common} alone: the constant answer {common} gets 100 % in every score, so that "
            "these say nothing of how it tells classes apart"
        )
    answers = [name for name, pixels in zip(names, found, strict=True) if pixels]
    few = [f"few images (no class is in more than {images} of the training split)"] if images < FEW else []
    fine = f"structures finer than the stride of {stride} pixels (see `fcn bound`)"
    rate = "a rate that does not fit the loss and the optimiser (lr, lr_factor)"
    data = [
        "masks that do not fit their images (look at metrics/figures/resize/samples.png)",
        "weights that expect another model.preprocessing",
    ]
    steps = "too few iterations"
    if len(answers) == 1:
        said, causes = f"gives one constant answer, {answers[0]} everywhere", [*few, rate, steps, fine, *data]
    elif pixel_accuracy > share or mean_iu - constant >= WEAK * (1 - constant):
        return ""
    elif mean_iu <= constant:
        said = (
            f"is below the constant answer {common}: pixel accuracy {_percent(pixel_accuracy)} of {_percent(share)}, "
            f"mean IU {_percent(mean_iu)} of {_percent(constant)}"
        )
        causes = [*few, rate, steps, fine, *data]
    else:
        said = (
            f"is weak: mean IU {_percent(mean_iu)}, above the {_percent(constant)} of the constant answer {common}, "
            f"but pixel accuracy {_percent(pixel_accuracy)}, not above its {_percent(share)}"
        )
        causes = [*few, steps, fine, rate]
    return f"{said}; likely causes: {', '.join(causes[:-1])}, or {causes[-1]}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
