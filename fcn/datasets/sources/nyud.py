"""NYUDv2: 1449 photographs of rooms with depth, 560×425 pixels, the 40 classes of Gupta et al., CVPR 2013.

Splits: train (381), val (414), trainval (795) and test (654) are read from NYUDv2's labelled file. Its 894 labels are
mapped to the 40 classes and its images are cropped as by Gupta et al. reference_train, reference_val and so on are the
same images as the FCN reference uses them: prepared by Gupta et al., who also cleaned up the contours between objects.
The paper's scores refer to those masks. The split's name alone selects the version, not the files that are on disk.

Inputs: colour, depth and HHA, of which only those that data.inputs names are extracted. The reference's archive has all
three; depth is in millimetres there, as in Gupta's saveHHA.m (it divides by 1000), which fits the reference's mean of
7.844 for the logarithm: 2.55 m. The labelled file has in-painted depth in metres, of which HHA is computed here.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcn.datasets.hha import Camera, hha
from fcn.datasets.label_maps import NYUD, NYUD_LABELS
from fcn.datasets.sources import Sample, _matlab, check_splits, list_samples
from fcn.io import extraction, matlab
from fcn.io.archive import Archive, https_or_http
from fcn.params import Data, Input, split_names

LABELS = NYUD
INPUTS: tuple[Input, ...] = ("rgb", "depth", "hha")
SIZE = (425, 560)
LABELED = Archive(
    "nyu_depth_v2_labeled.mat",
    https_or_http("horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat"),
    "NYU Depth Dataset V2 (Silberman, Hoiem, Kohli, Fergus): for research",
    "2d724b0c0ab358aa1ce5df855e5bd14a2279ab7202efe22f32a30d612dcb86aa",
    2_972_037_809,
)
REFERENCE = Archive(
    "nyud.tar.gz",
    https_or_http("dl.caffe.berkeleyvision.org/nyud.tar.gz"),
    "NYU Depth Dataset V2 as prepared by Gupta et al.: for research",
)
LISTS = {
    split: Archive(
        f"nyud_{split}.txt",
        (f"https://raw.githubusercontent.com/shelhamer/fcn.berkeleyvision.org/master/data/nyud/{split}.txt",),
        "FCN's lists of NYUDv2's images",
        digest,
    )
    for split, digest in {
        "train": "8db94b4a9b33494c20319c6e79073aa7b842a683e6d263c3873d6ee95cebf759",
        "val": "cd278b1232fe5c2347994a9a3c13cd916aa2e72def51b9698993a2e8936797f5",
        "test": "f717536bdff71424f6f7cd0674cf6ac4381b2cffaaf942230b962a9f40671e7a",
    }.items()
}
SPLITS = {"train": ("train",), "val": ("val",), "trainval": ("train", "val"), "test": ("test",)}
MASKS = _matlab.pictures("segmentation", _matlab.from_one(len(LABELS.names)), LABELS)  # of the reference splits
FIRST = 5001  # the number that the lists give to the first image of the labelled file
COUNT = 1449
# Shapes as h5py sees them; in MATLAB they are (480, 640, 3, 1449) and (480, 640, 1449).
ARRAYS = {"images": ((COUNT, 3, 640, 480), "u1"), "labels": ((COUNT, 640, 480), "u2")}
DEPTHS = {"depths": ((COUNT, 640, 480), "f4")}  # metres
CROP = (slice(45, 470), slice(40, 600))  # Gupta's I(46:470, 41:600): removes the border left by undistortion
# Of the cropped image. Depth is projected onto the colour camera; its intrinsics are those of MATLAB, counted from 1.
# source   camera_params.m of NYUDv2's toolbox: fx_rgb, fy_rgb, cx_rgb, cy_rgb
CAMERA = Camera(
    5.1885790117450188e02,
    5.1946961112127485e02,
    3.2558244941119034e02 - 1 - CROP[1].start,
    2.5373616633400465e02 - 1 - CROP[0].start,
)
FILES = {"rgb": "images", "depth": "depth", "hha": "hha"}  # folders of the inputs in the reference's archive


def archives(data: Data) -> tuple[Archive, ...]:
    """The archives of the splits, and their lists."""
    check_splits(data, [*SPLITS, *(f"reference_{name}" for name in SPLITS)])
    wanted = []
    for split in split_names(data.splits):
        wanted += [REFERENCE if split.startswith("reference_") else LABELED, *_lists(split)]
    return tuple(dict.fromkeys(wanted))


def _lists(split: str) -> list[Archive]:
    return [LISTS[name] for name in SPLITS[split.removeprefix("reference_")]]


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Extract the inputs and masks by split; arrays are converted to PNG."""
    for split in sorted(split_names(data.splits)):
        numbers = [int(n) for each in _lists(split) for n in archives[each.name].read_text().splitlines()]
        if split.startswith("reference_"):
            folder = "reference"
            with extraction.opened(archives[REFERENCE.name]) as contents:
                _build_reference(contents, numbers, data.inputs, out / folder)
        else:
            folder = "labeled"
            _build_labeled(archives[LABELED.name], numbers, data.inputs, out / folder)
        lines = (f"{folder}/image/img_{n}.png {folder}/mask/img_{n}.png\n" for n in numbers)
        (out / f"{split}.txt").write_text("".join(lines))


def _build_labeled(path: Path, numbers: list[int], inputs: Collection[Input], out: Path) -> None:
    """Convert images, masks and depth of NYUDv2's labelled file, one image at a time.

    The image is always written: its file names the sample.
    """
    deep = [name for name in inputs if name != "rgb"]
    for kind in ("image", "mask", *deep):
        (out / kind).mkdir(parents=True, exist_ok=True)
    for i, plane in matlab.planes(path, ARRAYS | (DEPTHS if deep else {}), (number - FIRST for number in numbers)):
        name = f"img_{i + FIRST}.png"
        mask = _matlab.look_up(plane["labels"], NYUD_LABELS, f"{path}: labels(:, :, {i + 1})")[CROP]
        Image.fromarray(plane["images"][CROP].copy()).save(out / "image" / name)
        LABELS.picture(mask).save(out / "mask" / name)
        for kind in deep:
            depth = plane["depths"][CROP]
            Image.fromarray(hha(depth, CAMERA) if kind == "hha" else _millimetres(depth)).save(out / kind / name)


def _millimetres(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """Depth in metres as millimetres, 0 where it is unknown; distances beyond 65.5 m are 65.5 m."""
    known = np.where(np.isfinite(depth), depth, 0).astype(np.float64)
    return np.clip(np.rint(1000 * known), 0, 65535).astype(np.uint16)


def _build_reference(contents: extraction.Contents, numbers: list[int], inputs: Collection[Input], out: Path) -> None:
    """Extract the inputs from the reference's archive, and convert its masks from MATLAB to PNG."""
    root = contents.root(f"data/images/img_{numbers[0]}.png")
    targets = {f"{root}segmentation/img_{n}.mat": out / f"mask/img_{n}.png" for n in numbers}
    for name in {"rgb", *inputs}:
        folder = "image" if name == "rgb" else name
        targets |= {f"{root}data/{FILES[name]}/img_{n}.png": out / f"{folder}/img_{n}.png" for n in numbers}
    extraction.write(contents, targets, MASKS)


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of its list."""
    return list_samples(raw, split)
