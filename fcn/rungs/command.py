"""The command line of the stages that train a rung."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fcn.params import Params
from fcn.pipeline import script


def run(description: str | None, module: str, strides: Sequence[int]) -> None:
    """Runs stages/train.py or stages/finetune.py.

    module    the stage, as for `python -m`
    strides   of the nets that it trains; with several, `--stride` chooses
    """
    parser = argparse.ArgumentParser(description=description)
    if len(strides) > 1:
        parser.add_argument("--stride", type=int, choices=strides, required=True, help="in pixels")
    parser.add_argument("--data", type=Path, required=True, help="folder of the packed splits")
    parser.add_argument("--parent", type=Path, required=True, help="model file of the coarser net, or of the backbone")
    parser.add_argument("--published", type=Path, required=True, help="folder of the published net of `init`")
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    parser.add_argument("--curves", type=Path, required=True, help="folder for train.csv and val.csv")
    parser.add_argument("--validation", type=Path, required=True, help="picture of predictions during training")

    def main(arguments: argparse.Namespace, experiment: Params) -> None:
        from fcn.rungs import rung
        from fcn.runtime import distributed

        distributed.launch(module, experiment.batch_size)
        rung.train_rung(**{"stride": strides[0]} | vars(arguments), params=experiment)

    script.run(parser, main, computes=True)
