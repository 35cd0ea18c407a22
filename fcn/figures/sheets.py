"""Contact sheets: images in rows, scaled to fit a screen, with a legend of class colours below."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fcn.data.labels import VOID, Labels, UInt8
from fcn.palette import Colour
from fcn.runtime import files

MAX_SIDE = 2000  # pixels, of a sheet without its legend
TILE, MIN_TILE = 256, 64  # pixels: maximal and minimal height of an image
GAP = 6
LINE = 20  # pixels, the height of a line of text
MAX_ENTRIES = 40  # classes in a legend
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
Counts = npt.NDArray[np.int64]
Size = tuple[int, int]  # width and height, in pixels


def colour(mask: npt.NDArray[np.integer], labels: Labels) -> UInt8:
    """A mask in its classes' colours, (H, W, 3) uint8; void is white."""
    return np.asarray(labels.picture(mask).convert("RGB"))


def counted(masks: Iterable[npt.NDArray[np.integer]]) -> Counts:
    """(256,) pixels of each class and of VOID over all masks."""
    return sum((np.bincount(mask.ravel(), minlength=256) for mask in masks), np.zeros(256, np.int64))


def sheet(
    rows: list[list[UInt8]],
    labels: Labels,
    path: Path,
    shown: Counts,
    titles: Sequence[str] = (),
    notes: Sequence[Sequence[str]] = (),
    marks: Mapping[str, Colour] | None = None,
) -> None:
    """Write a contact sheet: images in rows below column titles. Many rows are put side by side, or made smaller.

    shown   pixels of each class in the displayed masks, from `counted`; selects the entries of the legend
    notes   lines of text to the left of each row
    marks   additional legend entries: colours by meaning
    """
    font = ImageFont.load_default(14)
    notes = notes or [()] * len(rows)
    left = max((int(font.getlength(line)) + 2 * GAP for lines in notes for line in lines), default=0)
    top = 24 if titles else 0
    sizes = [[(picture.shape[1], picture.shape[0]) for picture in row] for row in rows]
    lines = [LINE * len(note) for note in notes]
    side, groups = _layout(sizes, lines, left, top)
    tiles = [[thumbnail(Image.fromarray(np.ascontiguousarray(p)), side) for p in row] for row in rows]
    widths, heights = _measures(sizes, lines, side)
    wide, many = left + sum(widths) + GAP * len(widths), -(-len(rows) // groups)
    parts = [range(first, min(first + many, len(rows))) for first in range(0, len(rows), many)]
    width = max(len(parts) * wide - GAP, 3 * TILE)  # the legend needs some width too
    height = top + max(sum(heights[i] for i in part) for part in parts)
    legend = _legend(_entries(labels, shown, marks or {}), width, font)
    whole = Image.new("RGB", (width, height + legend.height), "white")
    draw = ImageDraw.Draw(whole)
    for k, part in enumerate(parts):
        at = [k * wide + left + sum(widths[:j]) + j * GAP for j in range(len(widths))]
        for x, column, title in zip(at, widths, titles, strict=False):
            draw.text((x + column // 2, 11), title, "black", font, "mm")
        y = top
        for i in part:
            for j, line in enumerate(notes[i]):
                draw.text((k * wide + 2, y + LINE * j), line, "black", font)
            for x, column, tile in zip(at, widths, tiles[i], strict=False):
                whole.paste(tile, (x + (column - tile.width) // 2, y))
            y += heights[i]
    whole.paste(legend, (0, whole.height - legend.height))
    files.write_png(path, whole)


def thumbnail(image: Image.Image, side: int = TILE) -> Image.Image:
    """Scale an image to height `side`, or to width 3 × `side` if it is wider than that."""
    size = _fitted(image.size, side)
    return image.resize(size, Image.Resampling.NEAREST if size > image.size else Image.Resampling.BOX)


def _fitted(size: Size, side: int) -> Size:
    width, height = size
    scale = min(side / height, 3 * side / width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _layout(sizes: Sequence[Sequence[Size]], lines: Sequence[int], left: int, top: int) -> tuple[int, int]:
    """The largest image height for which the sheet fits into MAX_SIDE, and the number of row groups side by side."""
    for side in range(TILE, MIN_TILE, -8):
        widths, heights = _measures(sizes, lines, side)
        wide = left + sum(widths) + GAP * len(widths)
        for groups in range(1, max(1, (MAX_SIDE + GAP) // wide) + 1):
            many = -(-len(sizes) // groups)
            tall = max(sum(heights[first : first + many]) for first in range(0, len(sizes), many))
            if groups * wide - GAP <= MAX_SIDE and top + tall <= MAX_SIDE:
                return side, groups
    return MIN_TILE, max(1, MAX_SIDE // wide)


def _measures(sizes: Sequence[Sequence[Size]], lines: Sequence[int], side: int) -> tuple[list[int], list[int]]:
    """Widths of columns and heights of rows, including the gap below."""
    fitted = [[_fitted(size, side) for size in row] for row in sizes]
    widths = [max(size[0] for size in column if size) for column in zip_longest(*fitted)]
    return widths, [max(*(height for _, height in row), least) + GAP for row, least in zip(fitted, lines, strict=True)]


def _entries(labels: Labels, shown: Counts, marks: Mapping[str, Colour]) -> list[tuple[str, Colour | None]]:
    """The legend's entries: marks, classes (of many, those with the most pixels), and void if it is displayed."""
    classes = len(labels.names)
    chosen = range(classes)
    if classes > MAX_ENTRIES:
        most = np.argsort(-shown[:classes], kind="stable")[:MAX_ENTRIES]
        chosen = sorted(int(i) for i in most if shown[i])  # type: ignore[assignment]
    entries: list[tuple[str, Colour | None]] = [*marks.items()]
    entries += [(labels.names[i], labels.palette[i]) for i in chosen]
    more = np.count_nonzero(shown[:classes]) - len(chosen) if classes > MAX_ENTRIES else 0
    entries += [(f"and {more} more", None)] if more else []
    return entries + ([("void", (255, 255, 255))] if shown[VOID] else [])


def _legend(entries: Sequence[tuple[str, Colour | None]], width: int, font: Font) -> Image.Image:
    """Names next to their colours, wrapped into lines."""
    positions, x, y = [], 0, 4
    for name, fill in entries:
        wide = 22 + int(font.getlength(name)) + 14
        if x and x + wide > width:
            x, y = 0, y + 22
        positions.append((x, y, name, fill))
        x += wide
    legend = Image.new("RGB", (width, y + 24), "white")
    draw = ImageDraw.Draw(legend)
    for x, y, name, fill in positions:
        if fill:
            draw.rectangle((x, y + 2, x + 15, y + 17), fill, "gray")
        draw.text((x + (21 if fill else 0), y + 10), name, "black", font, "lm")
    return legend


def save_mask(mask: npt.NDArray[np.integer], labels: Labels, path: Path) -> None:
    """Write a mask as palette PNG: pixels are class numbers, colours those of the data set."""
    files.write_png(path, labels.picture(mask))
