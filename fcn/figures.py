"""Pictures: what is in the data, what was learned, where it is wrong."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from PIL import Image, ImageDraw, ImageFont

from fcn import files, tables
from fcn.data import Split, UInt8
from fcn.labels import Labels
from fcn.titles import NETS

if TYPE_CHECKING:
    from torch import Tensor

TILE = 160  # pixels, the height of a picture in a contact sheet
GAP = 6
LINE = 20  # pixels, the height of a line of text
Colour = tuple[int, int, int]  # red, green, blue, 0..255
COLOURS = {"fcn32s": "#c44e52", "fcn16s": "#dd8452", "fcn8s": "#4c72b0"}


def colour(mask: npt.NDArray[np.integer], labels: Labels) -> UInt8:
    """A mask in its classes' colours, (H, W, 3) uint8; void is white."""
    return np.asarray(labels.picture(mask).convert("RGB"))


def samples(split: Split, path: Path, count: int = 10) -> None:
    """A contact sheet of images and masks, evenly spread over the split."""
    chosen = np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)
    rows = [[split.image(i), colour(split.mask(i), split.labels)] for i in chosen]
    columns = [[row[k] for row in rows[:5]] for k in (0, 1)] + [[row[k] for row in rows[5:]] for k in (0, 1)]
    sheet([row for row in columns if row], split.labels, path)


def predictions(split: Split, folder: Path, nets: Sequence[str], path: Path, count: int = 6) -> None:
    """Image, truth and what each net predicted, for images spread evenly over the split."""
    rows = []
    for i in np.linspace(0, len(split) - 1, min(count, len(split))).astype(int):
        found = [np.asarray(Image.open(folder / net / f"{split.name(i)}.png")) for net in nets]
        masks = [split.mask(i), *found]
        rows.append([split.image(i), *(colour(mask, split.labels) for mask in masks)])
    sheet(rows, split.labels, path, ["image", "truth", *(NETS.get(net, net) for net in nets)])


def sheet(
    rows: list[list[UInt8]],
    labels: Labels,
    path: Path,
    titles: Sequence[str] = (),
    notes: Sequence[Sequence[str]] = (),
    marks: Mapping[str, Colour] | None = None,
) -> None:
    """Pictures in rows, under titles if there are any, with the classes' colours below.

    notes   lines of text that stand before each row
    marks   colours that are no class's, by what they mean
    """
    font = ImageFont.load_default(14)
    tiles = [[thumbnail(Image.fromarray(np.ascontiguousarray(picture))) for picture in row] for row in rows]
    widths = [max(tile.width for tile in column if tile) for column in zip_longest(*tiles)]
    left = max((int(font.getlength(line)) + 2 * GAP for lines in notes for line in lines), default=0)
    at = [left + sum(widths[:j]) + j * GAP for j in range(len(widths))]
    width = max(at[-1] + widths[-1], 3 * TILE)  # the classes' names need some room too
    top = 24 if titles else 0
    classes = zip(labels.names, labels.palette, strict=True)
    legend = _legend([*(marks or {}).items(), *classes, ("void", (255, 255, 255))], width, font)
    notes = notes or [()] * len(rows)
    tall = [
        max(*(tile.height for tile in row), LINE * len(lines)) + GAP for row, lines in zip(tiles, notes, strict=True)
    ]
    height = top + sum(tall)
    whole = Image.new("RGB", (width, height + legend.height), "white")
    draw = ImageDraw.Draw(whole)
    for x, wide, title in zip(at, widths, titles, strict=False):
        draw.text((x + wide // 2, 11), title, "black", font, "mm")
    for row, lines, high in zip(tiles, notes, tall, strict=True):
        for k, line in enumerate(lines):
            draw.text((2, top + LINE * k), line, "black", font)
        for x, wide, tile in zip(at, widths, row, strict=False):
            whole.paste(tile, (x + (wide - tile.width) // 2, top))
        top += high
    whole.paste(legend, (0, whole.height - legend.height))
    save(whole, path)


def thumbnail(image: Image.Image) -> Image.Image:
    """As high as a row of a contact sheet, or as wide as three rows are high."""
    scale = min(TILE / image.height, 3 * TILE / image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def _legend(
    entries: Sequence[tuple[str, Colour]], width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> Image.Image:
    """Names beside their colours, in as many lines as they need."""
    places, x, y = [], 0, 4
    for name, fill in entries:
        wide = 22 + int(font.getlength(name)) + 14
        if x and x + wide > width:
            x, y = 0, y + 22
        places.append((x, y, name, fill))
        x += wide
    legend = Image.new("RGB", (width, y + 24), "white")
    draw = ImageDraw.Draw(legend)
    for x, y, name, fill in places:
        draw.rectangle((x, y + 2, x + 15, y + 17), fill, "gray")
        draw.text((x + 21, y + 10), name, "black", font, "lm")
    return legend


def class_frequencies(splits: Mapping[str, Split], path: Path) -> None:
    """Share of the pixels that each class has, in train and in val, on a logarithmic axis."""
    labels = next(iter(splits.values())).labels
    figure = Figure((7, 0.6 + 0.32 * len(labels.names)), layout="constrained")
    axes = figure.subplots()
    at = np.arange(len(labels.names))
    for k, (role, split) in enumerate(splits.items()):
        pixels = split.pixels().sum(0)
        shares = pixels / max(1, pixels.sum())
        colours = np.array(labels.palette) / 255
        axes.barh(at + 0.4 * k, shares, 0.38, color=colours, edgecolor="black", linewidth=0.5, alpha=1 - 0.5 * k)
        for y, share in zip(at + 0.4 * k, shares, strict=True):
            axes.text(share, y, f" {role} {share:.2%}", va="center", fontsize=7)
    axes.set_yticks(at + 0.2, labels.names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("share of pixels")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def confusion(counts: "Tensor", labels: Labels, path: Path) -> None:
    """Each row says, of all pixels of a class, which shares were taken for which."""
    shares = (counts.double() / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    classes = len(labels.names)
    side = 2.2 + 0.42 * min(classes, 40)
    figure = Figure((side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares, "Blues", vmin=0, vmax=1)
    axes.set_xticks(range(classes), labels.names, rotation=60, ha="right", fontsize=8, parse_math=False)
    axes.set_yticks(range(classes), labels.names, fontsize=8, parse_math=False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title(f"{NETS.get(path.stem.removeprefix('confusion_'), path.stem)}: share of each class's pixels")
    if classes <= 25:
        for i, j in np.argwhere(shares >= 0.01):
            tone = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=7, color=tone)
    figure.colorbar(shown, shrink=0.7)
    save(figure, path)


def curves(metrics: Path, path: Path) -> None:
    """Loss and mean IU of the three rungs, one after the other on one axis of steps."""
    figure = Figure((9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    start = 0
    for net, name in NETS.items():
        train, val = (pd.read_csv(metrics / net / f"{kind}.csv") for kind in ("train", "val"))
        if train.empty:
            continue
        smooth = train["loss"].rolling(min(9, 1 + len(train) // 4), min_periods=1, center=True).mean()
        left.plot(start + train["iteration"], train["loss"], color=COLOURS[net], alpha=0.25, linewidth=0.8)
        left.plot(start + train["iteration"], smooth, "." if len(train) == 1 else "-", color=COLOURS[net], label=name)
        right.plot(start + val["iteration"], val["mean_iu"], "o-", color=COLOURS[net], label=name, markersize=4)
        start += int(train["iteration"].to_numpy()[-1])
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.minorticks_off()
    left.set_ylabel("training loss")
    right.set_ylabel("mean IU on val")
    for axes in (left, right):
        axes.set_xlabel("steps, over all rungs")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:  # none if no rung was trained
            axes.legend()
    save(figure, path)


def bound(rows: Mapping[int, float], published: Mapping[int, float], title: str, path: Path) -> None:
    """Mean IU of masks brought down by each factor and back, per cent, and the paper's for VOC if given."""
    figure = Figure((6, 3.6), layout="constrained")
    axes = figure.subplots()
    lines = [(rows, "o-", COLOURS["fcn8s"], title), (published, "s--", COLOURS["fcn32s"], "the paper, on VOC 2011")]
    for values, style, hue, name in lines:
        if values:
            axes.plot(list(values), list(values.values()), style, color=hue, label=name, markersize=5)
    for factor, value in rows.items():
        axes.annotate(f"{value:.1f}", (factor, value), (0, -14), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(rows), [str(factor) for factor in rows])
    axes.minorticks_off()
    axes.invert_xaxis()  # finer to the right, as the nets are
    axes.margins(y=0.15)
    axes.set_ylim(top=102)
    axes.set_xlabel("downsampling factor")
    axes.set_ylabel("mean IU of masks down and back, %")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right")
    save(figure, path)


def class_table(labels: Labels, columns: Mapping[str, Sequence[float]]) -> str:
    """Numbers by class as CSV: IU and pixels; empty where one is not a number, as the IU of a class in no mask.

    Names are written as `fcn.tables` says.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *columns])
    for i, name in enumerate(labels.names):
        values = [column[i] for column in columns.values()]
        writer.writerow([tables.cell(name), *("" if value != value else repr(value) for value in values)])
    return text.getvalue()


def save_mask(mask: npt.NDArray[np.integer], labels: Labels, path: Path) -> None:
    """A mask as palette PNG: its pixels are class numbers, its colours the data set's."""
    save(labels.picture(mask), path)


def save(picture: Figure | Image.Image, path: Path) -> None:
    """Writes a PNG file, whole or not at all."""
    with files.replacing(path) as temporary:
        if isinstance(picture, Figure):
            picture.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
        else:
            picture.save(temporary, "png")
