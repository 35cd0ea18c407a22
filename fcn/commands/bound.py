"""Say the best scores possible at strides of 128 to 4 pixels, from the val masks alone."""

import argparse
from pathlib import Path

EXAMPLE = "dvc repro resize && fcn bound"


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(arguments: argparse.Namespace) -> None:
    from fcn import params
    from fcn.bound import bounds
    from fcn.data import Split
    from fcn.titles import SCORES

    dataset = params.load().data.dataset
    print(f"{'factor':>8}" + "".join(f"{title:>16}" for title in SCORES.values()))
    for factor, row in bounds(Split(Path("data/resized") / dataset, "val")).items():
        print(f"{factor:8}" + "".join(f"{100 * value:16.1f}" for value in row.asdict().values()))
