"""Choose the size for a user's images from what their masks lose at each size, before training.

A mask is resized as in the pipeline, then downsampled to one class per block of FCN-8s' stride, and upsampled again.
Its score against the original bounds a net with one prediction per block; a net that interpolates can exceed it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fcn.data.labels import Labels
from fcn.data.scale import Wanted, target_size
from fcn.inspection.scan import RASTER, ImageInfo
from fcn.io import images

STRIDE = 8  # pixels of a block: FCN-8s'
SIDES = (256, 384, 512, 768, 1024)  # pixels of the shorter side
NATIVE = 2_000_000  # pixels; up to this, images may stay native and masks are scored at their original size
TOLERANCE = 0.05  # mean IU that a smaller size may lose against the best; larger sizes take longer to score
BUDGET = 300_000_000  # pixels × sizes × classes: some seconds
MAX_MASKS, MIN_MASKS = 16, 2


def candidates(infos: Iterable[ImageInfo]) -> list[Wanted]:
    """Shorter sides below that of every image, and native, smallest first; none for rasters, which are tiled."""
    image_sizes = {info.size for info in infos}
    if not image_sizes or (largest := max(width * height for width, height in image_sizes)) > RASTER:
        return []
    smallest = min(map(min, image_sizes))
    smaller: list[Wanted] = [side for side in SIDES if side < smallest]
    return [*smaller, "native"] if largest <= NATIVE else smaller


def bounds(folder: Path, masks: Sequence[str], labels: Labels, sizes: Sequence[Wanted]) -> dict[Wanted, float]:
    """The bound of mean IU at each size, from a sample of masks spread evenly over all."""
    import torch  # takes seconds to import

    from fcn.evaluation.bound import down_and_back
    from fcn.metrics.scores import confusion, scores

    classes, left = len(labels.names), float(BUDGET)
    counts = {size: torch.zeros(classes, classes, dtype=torch.int64) for size in sizes}
    for number, i in enumerate(np.linspace(0, len(masks) - 1, min(MAX_MASKS, len(masks))).round().astype(int)):
        if left < 0 and number >= MIN_MASKS:
            break
        mask = images.mask(folder / masks[i], labels, upright=True)
        truth, original = torch.from_numpy(mask.copy()), mask.shape[::-1]
        for size in sizes:
            width, height = target_size(original, size)
            small = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
            coarse = Image.fromarray(down_and_back(np.asarray(small), STRIDE, classes))
            upsampled = np.asarray(coarse.resize(original, Image.Resampling.NEAREST))
            counts[size] += confusion(truth, torch.from_numpy(upsampled.copy()), classes)
            left -= mask.size + width * height * classes
    if any(not confusions.sum() for confusions in counts.values()):  # the sampled masks are all void
        return {}
    return {size: scores(confusions).mean_iu for size, confusions in counts.items()}


def best(by_size: Mapping[Wanted, float]) -> Wanted:
    """The smallest size within TOLERANCE of the best: at larger sizes a crop shows less of an image."""
    threshold = max(by_size.values()) - TOLERANCE
    return next(size for size, bound in by_size.items() if bound >= threshold)


def report(by_size: Mapping[Wanted, float], side: int) -> str:
    """The bounds in one line.

    side   the smallest image's shorter side
    """
    texts = [
        f"{side} -> {size}: at most {100 * bound:.0f}"
        if isinstance(size, int)
        else f"native: at most {100 * bound:.0f}"
        for size, bound in by_size.items()
    ]
    return f"mean IU by size, one prediction per {STRIDE} pixels: {', '.join(texts)}; chosen: {best(by_size)}"
