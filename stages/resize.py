"""Check, decode and resize a data set into the packed splits that all later stages read."""

import argparse
from pathlib import Path

from fcn.data import tiles
from fcn.data.scale import Scale, Wanted
from fcn.data.split import Role, Split
from fcn.datasets import packing, sources
from fcn.figures import charts
from fcn.params import Data, Params
from fcn.pipeline import script
from fcn.runtime import files
from fcn.runtime.errors import UserError, counted


def main(paths: argparse.Namespace, experiment: Params) -> None:
    data = experiment.data
    tiling = tiles.tiling(data.tile, data.overlap)
    native = experiment.evaluate.size == "native"
    roles: list[tuple[Role, str, Wanted, Path]] = [
        ("train", data.splits.train, data.size.train, paths.out),
        ("val", data.splits.val, data.size.val, paths.out),
    ]
    if data.splits.test:
        roles.append(("test", data.splits.test, data.size.val, paths.test))
    labels, contents, problems = sources.labels(data), {}, []
    with files.replacing_folder(paths.test) as test, files.replacing_folder(paths.out) as folder:
        folders = {paths.out: folder, paths.test: test}
        for role, split, size, out in roles:
            try:
                samples = sources.samples(data, paths.raw, split)
                masks = native and role != "train"
                contents[role] = packing.pack(samples, labels, size, masks, role, folders[out], tiling)
            except UserError as error:
                problems.append(str(error))  # report the errors of all splits at once
        if problems:
            raise UserError("\n       ".join(problems))
        _refuse_shared(contents, getattr(sources.get(data.dataset), "SHARED", ""))
        for out in dict.fromkeys(folders[out] for *_, out in roles):
            _write_facts(data, out)
    packed: dict[str, Split] = {role: Split(out, role) for role, _, _, out in roles}
    charts.class_frequencies(packed, paths.figures / "classes.png")
    charts.samples(packed["train"], paths.figures / "samples.png")
    for name, written in packed.items():
        sizes = {written.size(i) for i in range(len(written))}
        examples = ", ".join(f"{w}x{h}" for h, w in sorted(sizes)[:3])
        print(f"{name}: {counted(len(written), 'image')}, {examples}, {written.void():.1%} void")
        if absent := written.absent():
            consequence = "cannot be learned" if name == "train" else "excluded from every mean"
            print(f"warning: in no mask of {name}, {consequence}: {', '.join(absent)}")


def _refuse_shared(contents: dict[Role, dict[str, str]], advice: str) -> None:
    """Refuses an image that is in two splits."""
    packing.refuse_shared(contents["train"], contents["val"], advice)
    if test := contents.get("test"):
        for role in ("train", "val"):
            packing.refuse_shared(contents[role], test, roles=(role, "test"))


def _write_facts(data: Data, out: Path) -> None:
    """Writes the files that describe all splits of a folder."""
    packing.write_labels(sources.labels(data), out)
    if geometric := sources.geometric(data):
        packing.write_labels(geometric, out, "geometric.json")
    packing.write_inputs(data.inputs, out)
    packing.write_scale(Scale(data.size.val, data.tile), out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder that download wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the packed train and val splits")
    parser.add_argument("--test", type=Path, required=True, help="folder for the packed test split, empty without one")
    parser.add_argument("--figures", type=Path, required=True, help="folder for a contact sheet and a chart")
    script.run(parser, main, lock="out")
