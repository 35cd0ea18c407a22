"""Say about how well one answer for every 128 to 4 pixels could score, from the val masks alone; --out draws it."""

import argparse
from pathlib import Path

EXAMPLE = "dvc repro resize && fcn bound --out bound.png"


def arguments(parser: argparse.ArgumentParser) -> None:
    # No default: metrics/figures/ belongs to the stages, and a command that is asked for numbers leaves no files.
    parser.add_argument("--out", type=Path, metavar="FILE", help="picture to draw, PNG")


def run(arguments: argparse.Namespace) -> None:
    from fcn import params
    from fcn.data.split import Split
    from fcn.evaluation import bound
    from fcn.experiments import history
    from fcn.figures import charts
    from fcn.runtime.errors import UserError

    if arguments.out and arguments.out.suffix != ".png":
        raise UserError(f"--out is {arguments.out}; the picture is a PNG, so end its name in .png")
    experiment = params.load()
    data = experiment.data
    rows = bound.bounds(Split(history.packed(experiment), "val"))
    published = bound.published(data.dataset)
    print(bound.table(rows, published))
    if arguments.out:
        values = {factor: 100 * row.mean_iu for factor, row in rows.items()}
        charts.bound(values, published, f"{data.dataset}, {data.splits.val}", arguments.out)
        print(f"wrote {arguments.out}")
