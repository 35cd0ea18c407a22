"""Estimate the best scores at strides 128 to 4 from the val masks alone: one class per cell; --out draws a chart."""

import argparse
from pathlib import Path

EXAMPLE = "dvc repro resize && fcn bound --out bound.png"


def arguments(parser: argparse.ArgumentParser) -> None:
    # No default: metrics/figures/ belongs to the stages, and without --out the command only prints.
    parser.add_argument("--out", type=Path, metavar="FILE", help="PNG file for the chart")


def run(arguments: argparse.Namespace) -> None:
    from fcn import params
    from fcn.data.split import Split
    from fcn.evaluation import bound
    from fcn.experiments import history
    from fcn.figures import charts
    from fcn.runtime.errors import UserError

    if arguments.out and arguments.out.suffix != ".png":
        raise UserError(f"--out is {arguments.out}; write a name that ends in .png")
    experiment = params.load()
    data = experiment.data
    rows = bound.bounds(Split(history.packed(experiment), "val"))
    published = bound.published(data.dataset)
    print(bound.table(rows, published))
    if arguments.out:
        values = {factor: 100 * row.mean_iu for factor, row in rows.items()}
        charts.bound(values, published, f"{data.dataset}, {data.splits.val}", arguments.out)
        print(f"wrote {arguments.out}")
