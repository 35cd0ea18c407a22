"""Makes the weights that FCN-32s starts from."""

import argparse
from pathlib import Path

from fcn import machine, params
from fcn.errors import one_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    out: Path = parser.parse_args().out
    machine.prepare()
    import torch

    from fcn import pipeline, weights
    from fcn.layers import PREPROCESSINGS
    from fcn.models import FCN

    experiment = params.load()
    torch.manual_seed(experiment.seed)
    net = FCN(1, 32, experiment.model.backbone)
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("score")}
    meta = weights.Meta(
        architecture={"backbone": experiment.model.backbone},
        preprocessing=PREPROCESSINGS[experiment.model.preprocessing],
        labels=None,
        parent=None,
        iterations=0,
        threads=torch.get_num_threads(),
        params=pipeline.read("backbone", experiment).params,
    )
    weights.save(out, state, meta)
    print(f"{out}: {experiment.model.backbone}, {sum(t.numel() for t in state.values()):,} values, from seed")


if __name__ == "__main__":
    with one_line():
        main()
