"""Makes the weights that FCN-32s starts from."""

import argparse
from pathlib import Path

from fcn import params
from fcn.pipeline import dvc_lock
from fcn.runtime import files, machine
from fcn.runtime.errors import one_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    out: Path = parser.parse_args().out
    machine.prepare()
    with files.alone(out):
        dvc_lock.begin()
        _make(out)


def _make(out: Path) -> None:
    import torch

    from fcn.models import FCN, weights
    from fcn.models.layers import PREPROCESSINGS
    from fcn.pipeline import dvc_yaml

    experiment = params.load()
    model = experiment.model
    if model.weights == "none":
        torch.manual_seed(experiment.seed)
        net = FCN(1, 32, model.backbone).state_dict()
        state = {name: tensor for name, tensor in net.items() if not name.startswith("score")}
        preprocessing, origin_file = PREPROCESSINGS[model.preprocessing], None
    else:
        from fcn.pretrained import imagenet  # and with it torchvision

        print(imagenet.archive(model.backbone, model.weights).notice, flush=True)
        state, preprocessing, origin_file = imagenet.backbone(model.backbone, model.weights)
    meta = weights.Meta(
        architecture={"backbone": model.backbone},
        preprocessing=preprocessing,
        labels=None,
        parent=None,
        published=origin_file,
        iterations=0,
        threads=torch.get_num_threads(),
        params=dvc_yaml.read("backbone", experiment).params,
    )
    weights.save(out, state, meta)
    origin = "from seed" if model.weights == "none" else f"trained on ImageNet, {model.weights}'s"
    print(f"{out}: {model.backbone}, {sum(t.numel() for t in state.values()):,} values, {origin}")


if __name__ == "__main__":
    with one_line():
        main()
