"""Write random images of the val split with their ground truth and a net's prediction."""

import argparse
from pathlib import Path

from fcn.runtime.errors import UserError

EXAMPLE = "fcn visualize --count 8 --seed 3"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=8, help="number of images (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice (default 0)")
    parser.add_argument("--model", type=Path, default=Path("data/weights/fcn8s.safetensors"), help="model file")
    parser.add_argument("--out", type=Path, help="output folder (default: one below .fcn/visualize)")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    if arguments.count < 1 or arguments.seed < 0:
        raise UserError("--count must be 1 or greater, and --seed 0 or greater")
    machine.prepare()
    from fcn import params
    from fcn.data.split import Split
    from fcn.experiments import history
    from fcn.inference import prediction
    from fcn.inference.visualization import visualize

    split = Split(history.packed(params.load()), "val")
    net, (labels, *_), _ = prediction.load(arguments.model)
    if labels.names != split.labels.names:
        raise UserError(f"{arguments.model} was trained on other classes than those of the val split; run `dvc repro`")
    default = f"{arguments.model.stem}-seed{arguments.seed}"
    out = arguments.out or machine.root() / ".fcn" / "visualize" / default
    for path in visualize(net, split, arguments.count, arguments.seed, out):
        print(path)
