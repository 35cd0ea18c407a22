"""Checks, decodes and resizes a data set once, into the packed splits that all later stages read."""

import argparse
import shutil
from pathlib import Path

from fcn import figures, params, resizing, sources, tiles
from fcn.data import Split
from fcn.errors import one_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder that download wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the packed splits")
    parser.add_argument("--figures", type=Path, required=True, help="folder for a contact sheet and a chart")
    paths = parser.parse_args()
    experiment = params.load()
    data = experiment.data
    source = sources.get(data.dataset)
    labels = sources.labels(data.dataset, data)
    tiling = tiles.tiling(data.tile, data.overlap)
    native = experiment.evaluate.size == "native"
    shutil.rmtree(paths.out, ignore_errors=True)
    paths.out.mkdir(parents=True)
    try:
        train, val = (source.samples(paths.raw, split) for split in (data.splits.train, data.splits.val))
        learned = resizing.pack(train, labels, data.size.train, False, "train", paths.out, tiling)
        scored = resizing.pack(val, labels, data.size.val, native, "val", paths.out, tiling)
        resizing.refuse_shared(learned, scored)
        resizing.write_labels(labels, paths.out)
    except BaseException:
        shutil.rmtree(paths.out)
        raise
    splits = {"train": Split(paths.out, "train"), "val": Split(paths.out, "val")}
    figures.class_frequencies(splits, paths.figures / "classes.png")
    figures.samples(splits["train"], paths.figures / "samples.png")
    for role, split in splits.items():
        sizes = {split.size(i) for i in range(len(split))}
        print(f"{role}: {len(split)} images, {', '.join(f'{w}x{h}' for h, w in sorted(sizes)[:3])}")


if __name__ == "__main__":
    with one_line():
        main()
