"""What a net predicts of a few validation images while it is trained: the same images at each validation."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fcn.data.labels import VOID, UInt8
from fcn.data.split import Split
from fcn.runtime import files
from fcn.runtime.distributed import SINGLE, Group

IMAGES = 4
STEPS = 8  # validations that the picture of a whole training shows
SIDE = 160  # pixels, the height of an image in it
LEFT, GAP = 90, 4  # pixels: for the names of rows; between images
WHITE = (255, 255, 255)


class Preview:
    """Collects predictions of IMAGES images, spread evenly over a split, while the whole split is scored.

    Nothing is computed for it: the split is scored anyway.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        self.places = np.unique(np.linspace(0, len(split) - 1, IMAGES).astype(int)).tolist()
        self.sizes = [_fitted(*split.size(i)) for i in self.places]
        self.found = [np.full(size, VOID, np.uint8) for size in self.sizes]

    def keep(self, i: int, prediction: Tensor) -> None:
        """Image i's prediction, (H, W) int64, if it is one of them."""
        if i in self.places:
            at = self.places.index(i)
            self.found[at] = _nearest(prediction.cpu().numpy().astype(np.uint8), self.sizes[at])

    def gathered(self, group: Group = SINGLE) -> str:
        """The predictions side by side, those of all processes, as the base64 of a PNG file of class numbers."""
        # What another process predicts is VOID here: the sum of all differences to it is the prediction's own.
        less = torch.from_numpy(np.concatenate([VOID - mask.ravel() for mask in self.found])).int()
        whole = (VOID - group.sum(less)).numpy().astype(np.uint8)
        ends = np.cumsum([height * width for height, width in self.sizes])[:-1]
        masks = [part.reshape(size) for part, size in zip(np.split(whole, ends), self.sizes, strict=True)]
        file = io.BytesIO()
        Image.fromarray(_beside(masks, VOID)).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    def picture(self, seen: Mapping[str, str]) -> Image.Image:
        """The images, their true masks, and what was predicted of them, a row a step.

        seen   what `gathered` gave, by the step's number
        """
        images = [_shrunk(self.split.image(i), size) for i, size in zip(self.places, self.sizes, strict=True)]
        masks = [_nearest(self.split.mask(i), size) for i, size in zip(self.places, self.sizes, strict=True)]
        rows = {"image": Image.fromarray(_beside(images, 255)), "truth": self._coloured(_beside(masks, VOID))}
        for number, png in seen.items():
            with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
                rows[f"step {number}"] = self._coloured(np.asarray(picture))
        return _below(rows)

    def write(self, seen: Mapping[str, str], path: Path) -> None:
        """Writes this picture as a PNG file."""
        with files.replacing(path) as temporary:
            self.picture(seen).save(temporary, "png")

    def _coloured(self, mask: UInt8) -> Image.Image:
        return self.split.labels.picture(mask).convert("RGB")


def preview_steps(iterations: int, every: int) -> list[int]:
    """The steps of a rung's validations, at most STEPS of them, spread evenly, the last among them."""
    numbers = [*range(every, iterations, every), *([iterations] if iterations else [])]
    places = np.linspace(0, len(numbers) - 1, min(STEPS, len(numbers))).round().astype(int)
    return [numbers[i] for i in places]


def _fitted(height: int, width: int) -> tuple[int, int]:
    """Height and width in the picture: SIDE high, or twice as wide if that is less."""
    scale = min(SIDE / height, 2 * SIDE / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _shrunk(image: UInt8, size: tuple[int, int]) -> UInt8:
    way = Image.Resampling.BOX if size < image.shape[:2] else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size[::-1], way))


def _nearest(mask: UInt8, size: tuple[int, int]) -> UInt8:
    return np.asarray(Image.fromarray(np.ascontiguousarray(mask)).resize(size[::-1], Image.Resampling.NEAREST))


def _beside(pictures: Sequence[UInt8], fill: int) -> UInt8:
    height = max(len(picture) for picture in pictures)
    width = sum(picture.shape[1] + GAP for picture in pictures) - GAP
    whole = np.full((height, width, *pictures[0].shape[2:]), fill, np.uint8)
    left = 0
    for picture in pictures:
        whole[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + GAP
    return whole


def _below(rows: Mapping[str, Image.Image]) -> Image.Image:
    font = ImageFont.load_default(14)
    size = _extent(rows.values())
    whole = Image.new("RGB", size, WHITE)
    draw, top = ImageDraw.Draw(whole), 0
    for name, row in rows.items():
        draw.text((2, top + row.height // 2), name, "black", font, "lm")
        whole.paste(row, (LEFT, top))
        top += row.height + GAP
    return whole


def _extent(rows: Iterable[Image.Image]) -> tuple[int, int]:
    sizes = [row.size for row in rows]
    return LEFT + max(width for width, _ in sizes), sum(height + GAP for _, height in sizes) - GAP
