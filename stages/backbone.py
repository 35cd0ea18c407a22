"""Write the weights that FCN-32s starts from, and the published nets that `init` names."""

import argparse
from pathlib import Path

from fcn.ladder import LADDER
from fcn.params import Params
from fcn.pipeline import script
from fcn.runtime import files


def main(paths: argparse.Namespace, experiment: Params) -> None:
    _backbone(paths.out, experiment)
    for net in LADDER:
        _published(paths.published / net.name, net.stride, experiment)


def _backbone(out: Path, experiment: Params) -> None:
    import torch

    from fcn.models import FCN
    from fcn.models.layers import PREPROCESSINGS
    from fcn.pipeline import dvc_yaml
    from fcn.weights import model_file

    model = experiment.model
    if model.weights is None:
        torch.manual_seed(experiment.seed)
        net = FCN(1, 32, model.backbone).state_dict()
        state = {name: tensor for name, tensor in net.items() if not name.startswith("score")}
        preprocessing, origin_file = PREPROCESSINGS[model.preprocessing], None
    else:
        from fcn.pretrained import imagenet  # imports torchvision

        print(imagenet.archive(model.backbone, model.weights).notice, flush=True)
        state, preprocessing, origin_file = imagenet.backbone(model.backbone, model.weights)
    meta = model_file.Meta(
        architecture={"backbone": model.backbone},
        preprocessing=preprocessing,
        labels=None,
        parent=None,
        published=origin_file,
        iterations=0,
        threads=torch.get_num_threads(),
        params=dvc_yaml.read("backbone", experiment).params,
    )
    model_file.save(out, state, meta)
    origin = f"trained on ImageNet, {model.weights}'s" if model.weights else "from seed"
    print(f"{out}: {model.backbone}, {sum(t.numel() for t in state.values()):,} values, {origin}")


def _published(folder: Path, stride: int, experiment: Params) -> None:
    """Write `init.txt`, which names what the net starts from, and the published net, if `init` names one."""
    init = experiment.rung(stride).init
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    files.write_text(folder / "init.txt", f"{init}\n")  # DVC would warn of an empty folder
    if init == "parent":
        return
    from fcn.pretrained import published

    published.check(init, stride, experiment.model.backbone)
    for archive in published.archives(init):
        print(archive.notice, flush=True)
    published.make(init, folder / f"{init}.safetensors")
    print(f"{folder}: {init}, for FCN-{stride}s to start from")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    parser.add_argument("--published", type=Path, required=True, help="folder for published nets, one folder a rung")
    script.run(parser, main, lock="out", computes=True)
