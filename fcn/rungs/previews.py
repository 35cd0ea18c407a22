"""Previews: predictions for a few fixed validation images at each validation during training."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fcn.data.labels import VOID, UInt8
from fcn.data.split import Split
from fcn.runtime import files
from fcn.runtime.distributed import SINGLE, Group
from fcn.tracking import image_grid

IMAGES = 4
STEPS = 8  # maximum validations shown in the picture of a training
SIDE = 160  # pixels, height of an image in the picture
LEFT, GAP = 90, 4  # pixels: width of the row labels; space between images
WHITE = (255, 255, 255)


class Preview:
    """Collects the predictions for IMAGES images, evenly spaced in a split, while the whole split is scored.

    It needs no forward passes of its own.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        self.indices = chosen(len(split))
        self.sizes = [_fitted(*split.size(i)) for i in self.indices]
        self.predictions = [np.full(size, VOID, np.uint8) for size in self.sizes]

    def keep(self, i: int, predicted: Sequence[Tensor]) -> None:
        """Stores the first score path's prediction for image i, (H, W) int64, if i is one of the images."""
        if i in self.indices:
            at = self.indices.index(i)
            self.predictions[at] = _nearest(predicted[0].cpu().numpy().astype(np.uint8), self.sizes[at])

    def gathered(self, group: Group = SINGLE) -> str:
        """The predictions of all processes side by side, as a base64-encoded PNG of class numbers."""
        # Predictions made by another process are VOID here, so VOID - prediction is nonzero in one process only.
        differences = torch.from_numpy(np.concatenate([VOID - mask.ravel() for mask in self.predictions])).int()
        whole = (VOID - group.sum(differences)).numpy().astype(np.uint8)
        ends = np.cumsum([height * width for height, width in self.sizes])[:-1]
        masks = [part.reshape(size) for part, size in zip(np.split(whole, ends), self.sizes, strict=True)]
        file = io.BytesIO()
        Image.fromarray(_beside(masks, VOID)).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    def picture(self, previews: Mapping[str, str]) -> Image.Image:
        """The images, their true masks, and one row of predictions per step.

        previews   results of `gathered`, by step number
        """
        images = [_shrunk(self.split.picture(i), size) for i, size in zip(self.indices, self.sizes, strict=True)]
        masks = [_nearest(self.split.mask(i), size) for i, size in zip(self.indices, self.sizes, strict=True)]
        rows = {"image": Image.fromarray(_beside(images, 255)), "truth": self._coloured(_beside(masks, VOID))}
        for number, png in previews.items():
            with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
                rows[f"step {number}"] = self._coloured(np.asarray(picture))
        return _below(rows)

    def columns(self, net: str, step: int, png: str) -> dict[tuple[str, int], Image.Image]:
        """The pictures for MLflow's image grid of one validation: see the function `columns`."""
        return columns(self.picture({str(step): png}), self.layout(), net, [step])

    def layout(self) -> "list[Column]":
        """Where each image is in `picture`."""
        return layout([self.split.name(i) for i in self.indices], [self.split.size(i) for i in self.indices])

    def write(self, previews: Mapping[str, str], path: Path) -> None:
        """Writes `picture` as a PNG file."""
        files.write_png(path, self.picture(previews))

    def _coloured(self, mask: UInt8) -> Image.Image:
        return self.split.labels.picture(mask).convert("RGB")


@dataclass(frozen=True)
class Column:
    """An image's column in the picture of a training.

    left, width, height   in pixels
    """

    name: str
    left: int
    width: int
    height: int


def chosen(count: int) -> list[int]:
    """IMAGES of `count` images, evenly spaced."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, IMAGES).astype(int))]


def layout(names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[Column]:
    """The columns of images with these names, heights and widths."""
    placed, left = [], LEFT
    for name, (height, width) in zip(names, (_fitted(*size) for size in sizes), strict=True):
        placed.append(Column(name, left, width, height))
        left += width + GAP
    return placed


def columns(
    picture: Image.Image, layout: Sequence[Column], net: str, steps: Sequence[int]
) -> dict[tuple[str, int], Image.Image]:
    """Cuts the picture of a training into one picture per image and step: image, truth and prediction.

    picture   as `Preview.write` writes it
    steps     of its rows of predictions
    returns   pictures by key of MLflow's image grid and step; none if the picture has another size than the layout says
    """
    row = max(column.height for column in layout)
    size = layout[-1].left + layout[-1].width, (2 + len(steps)) * (row + GAP) - GAP
    if picture.size != size:
        return {}
    cut = {}
    for place, column in enumerate(layout, 1):
        strips = [
            picture.crop((column.left, top, column.left + column.width, top + column.height))
            for top in range(0, size[1], row + GAP)
        ]
        for strip, step in zip(strips[2:], steps, strict=True):
            whole = Image.new("RGB", (column.width, 3 * column.height + 2 * GAP), WHITE)
            for i, part in enumerate((*strips[:2], strip)):
                whole.paste(part, (0, i * (column.height + GAP)))
            cut[image_grid.key(net, f"{place} {column.name}"), step] = whole
    return cut


def preview_steps(iterations: int, every: int) -> list[int]:
    """Steps of the validations shown in the picture: at most STEPS, evenly spaced, including the last."""
    numbers = [*range(every, iterations, every), *([iterations] if iterations else [])]
    indices = np.linspace(0, len(numbers) - 1, min(STEPS, len(numbers))).round().astype(int)
    return [numbers[i] for i in indices]


def _fitted(height: int, width: int) -> tuple[int, int]:
    """Height and width in the picture: SIDE high, but at most twice SIDE wide."""
    scale = min(SIDE / height, 2 * SIDE / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _shrunk(image: UInt8, size: tuple[int, int]) -> UInt8:
    resampling = Image.Resampling.BOX if size < image.shape[:2] else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size[::-1], resampling))


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
