"""Check, decode and resize a data set into the packed splits that all later stages read."""

import argparse
from pathlib import Path

from fcn.data import tiles
from fcn.data.scale import Scale, Wanted
from fcn.data.split import Role, Split
from fcn.datasets import packing, sources
from fcn.figures import charts
from fcn.params import Params
from fcn.pipeline import script
from fcn.runtime import files
from fcn.runtime.errors import UserError, counted


def main(paths: argparse.Namespace, experiment: Params) -> None:
    data = experiment.data
    labels, geometric = sources.labels(data), sources.geometric(data)
    tiling = tiles.tiling(data.tile, data.overlap)
    native = experiment.evaluate.size == "native"
    roles: tuple[tuple[Role, str, Wanted], ...]
    roles = ("train", data.splits.train, data.size.train), ("val", data.splits.val, data.size.val)
    contents, problems = {}, []
    with files.replacing_folder(paths.out) as folder:
        for role, split, size in roles:
            try:
                samples = sources.samples(data, paths.raw, split)
                masks = native and role == "val"
                contents[role] = packing.pack(samples, labels, size, masks, role, folder, tiling)
            except UserError as error:
                problems.append(str(error))  # report the errors of both splits at once
        if problems:
            raise UserError("\n       ".join(problems))
        packing.refuse_shared(contents["train"], contents["val"], getattr(sources.get(data.dataset), "SHARED", ""))
        packing.write_labels(labels, folder)
        if geometric:
            packing.write_labels(geometric, folder, "geometric.json")
        packing.write_inputs(data.inputs, folder)
        packing.write_scale(Scale(data.size.val, data.tile), folder)
    packed: dict[str, Split] = {role: Split(paths.out, role) for role, _, _ in roles}
    charts.class_frequencies(packed, paths.figures / "classes.png")
    charts.samples(packed["train"], paths.figures / "samples.png")
    for name, written in packed.items():
        sizes = {written.size(i) for i in range(len(written))}
        examples = ", ".join(f"{w}x{h}" for h, w in sorted(sizes)[:3])
        print(f"{name}: {counted(len(written), 'image')}, {examples}, {written.void():.1%} void")
        if absent := written.absent():
            consequence = "cannot be learned" if name == "train" else "excluded from every mean"
            print(f"warning: in no mask of {name}, {consequence}: {', '.join(absent)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder that download wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the packed splits")
    parser.add_argument("--figures", type=Path, required=True, help="folder for a contact sheet and a chart")
    script.run(parser, main, lock="out")
