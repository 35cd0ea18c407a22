"""Which size suits images of one's own: what their masks lose at each, before anything is trained.

A mask is brought to a size as the pipeline does it, then to one class for every block of FCN-8s' stride, and back.
What it then scores against itself bounds a net that answers once a block; one that interpolates can pass it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fcn.data.labels import Labels
from fcn.inspection.scan import RASTER, ImageInfo
from fcn.io import images

STRIDE = 8  # pixels of a block: FCN-8s'
SIDES = (256, 384, 512, 768, 1024)  # pixels of the shorter side
NATIVE = 2_000_000  # pixels, up to which images are taken and masks scored in their own size
TOLERATED = 0.05  # of mean IU: a smaller size may have so much less than the best; larger ones take longer to score
WORK = 300_000_000  # pixels, times sizes and classes: some seconds
MOST, LEAST = 16, 2  # masks
Size = int | str


def candidates(heads: Iterable[ImageInfo]) -> list[Size]:
    """Shorter sides below that of every image, and native, smallest first; rasters have none, they are cut."""
    seen = {head.size for head in heads}
    if not seen or (largest := max(width * height for width, height in seen)) > RASTER:
        return []
    smallest = min(map(min, seen))
    return [*(side for side in SIDES if side < smallest), *(["native"] if largest <= NATIVE else [])]


def bounds(folder: Path, masks: Sequence[str], labels: Labels, sizes: Sequence[Size]) -> dict[Size, float]:
    """The bound of mean IU at each size, from some of the masks, spread over all."""
    import torch  # takes seconds to import

    from fcn.data.scale import target_size
    from fcn.evaluation.bound import down_and_back
    from fcn.metrics.scores import confusion, scores

    classes, left = len(labels.names), float(WORK)
    counts = {size: torch.zeros(classes, classes, dtype=torch.int64) for size in sizes}
    for number, i in enumerate(np.linspace(0, len(masks) - 1, min(MOST, len(masks))).round().astype(int)):
        if left < 0 and number >= LEAST:
            break
        mask = images.mask(folder / masks[i], labels, upright=True)
        truth, own = torch.from_numpy(mask.copy()), mask.shape[::-1]
        for size in sizes:
            width, height = target_size(own, size)
            small = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
            coarse = Image.fromarray(down_and_back(np.asarray(small), STRIDE, classes))
            back = np.asarray(coarse.resize(own, Image.Resampling.NEAREST))
            counts[size] += confusion(truth, torch.from_numpy(back.copy()), classes)
            left -= mask.size + width * height * classes
    if any(not found.sum() for found in counts.values()):  # void alone, in these masks
        return {}
    return {size: scores(found).mean_iu for size, found in counts.items()}


def best(found: Mapping[Size, float]) -> Size:
    """The smallest size that loses little: a larger one sees less of an image in a crop, and takes longer to score."""
    enough = max(found.values()) - TOLERATED
    return next(size for size, bound in found.items() if bound >= enough)


def report(found: Mapping[Size, float], side: int) -> str:
    """The bounds in a line.

    side   the smallest image's shorter side
    """
    texts = [
        f"{side} -> {size}: at most {100 * bound:.0f}"
        if isinstance(size, int)
        else f"native: at most {100 * bound:.0f}"
        for size, bound in found.items()
    ]
    return f"mean IU by size, one answer for every {STRIDE} pixels: {', '.join(texts)}; taken: {best(found)}"
