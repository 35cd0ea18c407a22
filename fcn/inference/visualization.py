"""Write random validation images with their true and predicted masks of the first score path."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fcn.data.labels import UInt8
from fcn.data.split import Split
from fcn.figures import sheets
from fcn.inference.prediction import predict
from fcn.models import Net
from fcn.runtime import files


def visualize(net: Net, split: Split, count: int, seed: int, out: Path) -> Iterator[Path]:
    """Write image, truth and prediction of `count` random images, then a contact sheet; yields each file written.

    count   number of images; at most all of the split
    seed    random seed for the choice of images
    """
    rows: list[list[UInt8]] = []
    shown = sheets.counted([])
    for i in np.random.default_rng(seed).permutation(len(split))[:count]:
        image, truth = split.picture(i), split.mask(i)
        height, width = truth.shape
        prediction = predict(net, split.image(i), size=(width, height))[0].mask
        yield _saved(Image.fromarray(image), out / f"{split.name(i)}.image.png")
        for kind, mask in (("truth", truth), ("prediction", prediction)):
            yield _saved(split.labels.picture(mask), out / f"{split.name(i)}.{kind}.png")
        shown += sheets.counted([truth, prediction])
        rows.append([image, *(sheets.colour(mask, split.labels) for mask in (truth, prediction))])
    sheet = out / "sheet.png"
    sheets.sheet(rows, split.labels, sheet, shown, ["image", "truth", "prediction"])
    yield sheet


def _saved(picture: Image.Image, path: Path) -> Path:
    files.write_png(path, picture)
    return path
