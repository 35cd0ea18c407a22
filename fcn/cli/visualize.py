"""Write images of the val split, drawn by lot, with their truth and a net's prediction."""

import argparse
from pathlib import Path

from fcn.runtime.errors import UserError

EXAMPLE = "fcn visualize --count 8 --seed 3"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=8, help="images; 8 by default")
    parser.add_argument("--seed", type=int, default=0, help="of the draw; 0 by default")
    parser.add_argument("--model", type=Path, default=Path("data/weights/fcn8s.safetensors"), help="model file")
    parser.add_argument("--out", type=Path, help="folder; by default one below .fcn/visualize")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    if arguments.count < 1 or arguments.seed < 0:
        raise UserError("--count must be 1 or more, --seed 0 or more")
    machine.prepare()
    from fcn import params
    from fcn.data.split import Split
    from fcn.experiments import history
    from fcn.inference import prediction
    from fcn.inference.visualization import visualize

    split = Split(history.packed(params.load()), "val")
    net, labels, _ = prediction.load(arguments.model)
    if labels.names != split.labels.names:
        raise UserError(f"{arguments.model} was trained on other classes than the val split has; run `dvc repro`")
    own = f"{arguments.model.stem}-seed{arguments.seed}"
    out = arguments.out or machine.root() / ".fcn" / "visualize" / own
    for path in visualize(net, split, arguments.count, arguments.seed, out):
        print(path)
