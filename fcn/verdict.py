"""What counts of pixels say beside the scores: which classes cannot be scored, and whether anything was learned."""

from collections.abc import Sequence

CAUSES = (
    "likely a rate that does not fit the loss and the optimiser (lr, lr_factor), too few iterations, masks that do "
    "not fit their images (look at metrics/figures/samples.png), or weights that expect another model.preprocessing"
)


def missing(names: Sequence[str], truth: Sequence[int]) -> list[str]:
    """The classes that are in no mask of the split; the means leave them out."""
    return [name for name, pixels in zip(names, truth, strict=True) if not pixels]


def nothing_learned(names: Sequence[str], truth: Sequence[int], found: Sequence[int], hits: float) -> str:
    """Why a net's predictions are worth nothing, in a sentence; empty if they are worth something.

    names   of the classes
    truth   pixels of each class in the masks
    found   pixels of each class in the predictions
    hits    pixel accuracy
    """
    common, share = max(truth), max(truth) / sum(truth)
    if share == 1:  # nothing to tell apart: one answer is right everywhere
        return ""
    name = names[list(truth).index(common)]
    answers = [name for name, pixels in zip(names, found, strict=True) if pixels]
    if len(answers) == 1:
        return f"learned nothing: it answers {answers[0]} everywhere; {CAUSES}"
    if hits <= share:
        return (
            f"learned nothing: its pixel accuracy, {100 * hits:.1f} %, is not above the {100 * share:.1f} % of "
            f"always answering {name}; {CAUSES}"
        )
    return ""
