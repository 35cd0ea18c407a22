"""Contact sheets of the results of `fcn.evaluation.review`: best and worst images, and where the nets differ."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fcn import palette
from fcn.data.labels import VOID, Labels, UInt8
from fcn.data.split import Split
from fcn.evaluation import score_charts
from fcn.evaluation.review import Numbers, Review, disputed, ends, predictions
from fcn.figures import sheets
from fcn.ladder import NETS
from fcn.palette import Colour
from fcn.runtime import files

Bits = npt.NDArray[np.bool_]
# Colours of the marks; `palette.marks` replaces one that resembles a class colour.
WRONG = {"wrong": (213, 0, 0)}
GREYS = [(grey, grey, grey) for grey in (170, 200, 230, 255)]  # of the image below the marks
# Blue, orange and pink of Okabe and Ito's colour-blind safe palette.
MARKS = {"mended": (0, 114, 178), "spoiled": (230, 159, 0), "wrong, another way": (204, 121, 167)}


def draw(split: Split, folder: Path, review: Review, iu: Mapping[str, Sequence[float]], out: Path) -> list[Path]:
    """Write all figures and return their paths.

    folder   folder of the predicted masks
    iu       IU of each class by scored net, coarse to fine; NaN where undefined
    out      folder of the figures
    """
    paths = [out / f"{name}.png" for name in ("iu", "best", "worst", "strides", "borders")]
    iu_path, best, worst, steps, near = paths
    if iu:
        score_charts.class_iu(split.labels, iu, iu_path)
        score_charts.borders(review, near)
    else:
        _nothing(iu_path)
        _nothing(near)
    best_and_worst(split, folder, review.scores, best, worst)
    strides(split, folder, review.differ, list(iu), steps)
    return paths


def best_and_worst(split: Split, folder: Path, scores: Mapping[str, Numbers], best: Path, worst: Path) -> None:
    """Two contact sheets: image, truth, predictions and the finest net's errors, with the scores.

    scores   scores of each image by scored net, coarse to fine, as in `fcn.evaluation.review.Review`
    """
    nets = list(scores)
    marks = palette.marks(WRONG, [*split.labels.palette, *GREYS])
    for path, chosen in zip((best, worst), ends(scores[nets[-1]]) if nets else ([], []), strict=True):
        rows, notes, counts = [], [], sheets.counted([])
        for i in chosen:
            mask, found = split.mask(i), predictions(split, folder, nets, i)
            wrong = {"wrong": (mask != VOID) & (found[nets[-1]] != mask)}
            counts += sheets.counted([mask, *found.values()])
            shown = [split.picture(i), *(sheets.colour(m, split.labels) for m in (mask, *found.values()))]
            rows.append([_small(picture) for picture in (*shown, _marked(split.picture(i), wrong, marks))])
            values = (f"{NETS[net]}  {100 * scores[net][i]:.1f}" for net in nets)
            notes.append([_short(split.name(i)), "mean IU, %", *values])
        titles = ["image", "truth", *(NETS[net] for net in nets), *(f"{NETS[net]}'s errors" for net in nets[-1:])]
        _sheet(rows, split.labels, path, counts, titles, notes, marks)


def strides(split: Split, folder: Path, differ: Numbers, nets: Sequence[str], path: Path) -> None:
    """A contact sheet of the images on which nets differ most: what each finer net corrects and what it breaks.

    differ   as in `fcn.evaluation.review.Review`
    nets     scored nets, coarse to fine
    """
    titles = [f"{NETS[coarse]} to {NETS[fine].removeprefix('FCN-')}" for coarse, fine in pairwise(nets)]
    marks = palette.marks(MARKS, [*split.labels.palette, *GREYS])
    rows, notes, counts = [], [], sheets.counted([])
    for i in disputed(differ) if len(nets) > 1 else []:
        mask, found = split.mask(i), predictions(split, folder, nets, i)
        steps = [changes(mask, found[coarse], found[fine]) for coarse, fine in pairwise(nets)]
        counts += sheets.counted([mask])
        maps = [_small(_marked(split.picture(i), step, marks)) for step in steps]
        rows.append([_small(split.picture(i)), _small(sheets.colour(mask, split.labels)), *maps])
        note = [_short(split.name(i)), f"{100 * differ[i]:.1f} % differ"]
        valid = np.count_nonzero(mask != VOID)
        for title, step in zip(titles, steps, strict=True):
            mended, spoiled = (100 * np.count_nonzero(step[what]) / valid for what in ("mended", "spoiled"))
            note += [f"{title}:", f"{mended:.1f} mended, {spoiled:.1f} spoiled"]
        notes.append(note)
    _sheet(rows, split.labels, path, counts, ["image", "truth", *titles], notes, marks)


def changes(mask: UInt8, coarse: UInt8, fine: UInt8) -> dict[str, Bits]:
    """Masks of the pixels on which the finer net differs from the coarser one, by outcome."""
    differ = (mask != VOID) & (coarse != fine)
    mended, spoiled = differ & (fine == mask), differ & (coarse == mask)
    return dict(zip(MARKS, (mended, spoiled, differ & ~mended & ~spoiled), strict=True))


def _marked(image: UInt8, places: Mapping[str, Bits], marks: Mapping[str, Colour]) -> UInt8:
    """The image in pale grey at the size of the masks, with the masks' pixels in their colours."""
    height, width = next(iter(places.values())).shape
    grey = np.asarray(Image.fromarray(image).convert("L").resize((width, height)))
    pale = np.repeat(255 - (255 - grey[..., None]) // 3, 3, 2)
    for name, at in places.items():
        pale[at] = marks[name]
    return pale


def _small(picture: UInt8) -> UInt8:
    """A thumbnail, so that full-size images are not kept in memory until the sheet is complete."""
    return np.asarray(sheets.thumbnail(Image.fromarray(np.ascontiguousarray(picture))))


def _short(name: str, most: int = 20) -> str:
    return name if len(name) <= most else f"..{name[-most + 2 :]}"


def _sheet(
    rows: list[list[UInt8]],
    labels: Labels,
    path: Path,
    shown: sheets.Counts,
    titles: Sequence[str],
    notes: Sequence[Sequence[str]],
    marks: Mapping[str, Colour],
) -> None:
    if rows:
        sheets.sheet(rows, labels, path, shown, titles, notes, marks)
    else:
        _nothing(path)


def _nothing(path: Path) -> None:
    """Write a placeholder: DVC requires every output file, even if there is nothing to show."""
    picture = Image.new("RGB", (3 * sheets.TILE, 40), "white")
    text = "nothing to show: too few nets have a score, or they agree"
    ImageDraw.Draw(picture).text((6, 20), text, "black", ImageFont.load_default(14), "lm")
    files.write_png(path, picture)
