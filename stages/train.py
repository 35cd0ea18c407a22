"""Train FCN-32s from the backbone."""

import argparse
from pathlib import Path

from fcn import params
from fcn.runtime import machine
from fcn.runtime.errors import one_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the packed splits")
    parser.add_argument("--parent", type=Path, required=True, help="model file of the backbone")
    parser.add_argument("--published", type=Path, required=True, help="folder of the published net of `init`")
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    parser.add_argument("--curves", type=Path, required=True, help="folder for train.csv and val.csv")
    parser.add_argument("--validation", type=Path, required=True, help="picture of predictions during training")
    paths = parser.parse_args()
    experiment = params.load()
    machine.prepare()
    from fcn.rungs import rung
    from fcn.runtime import distributed

    distributed.launch("stages.train", experiment.batch_size)
    rung.train_rung("train", 32, experiment, **vars(paths))


if __name__ == "__main__":
    with one_line():
        main()
