"""FCN-8s as this project trains it and predicts with it, in a process of its own: `python -m benchmarks.ours`."""

from fcn.runtime import machine

machine.prepare()

import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from benchmarks import sides  # noqa: E402
from fcn import params  # noqa: E402
from fcn.data.sampling import SampledImage  # noqa: E402
from fcn.models import FCN  # noqa: E402
from fcn.training.optimizer import Optimizer  # noqa: E402
from fcn.training.steps import backward, train_mode  # noqa: E402
from tests.parity.oracle import rgb  # noqa: E402

Work = Callable[[], object]


def heavy(precision: str) -> params.Params:
    """The paper's heavy recipe."""
    recipe = Path("recipes/voc-heavy.yaml")
    content = params.parse(recipe.read_text(), str(recipe)) | {"precision": precision}
    return params.check(content, str(recipe))


def our_net(classes: int, precision: str) -> tuple[FCN, Optimizer]:
    torch.manual_seed(0)
    net = FCN(classes, 8).to(machine.device()).to(memory_format=torch.channels_last)
    return net, Optimizer(net, heavy(precision))


def our_step(net: FCN, optimizer: Optimizer, image: SampledImage) -> Work:
    train_mode(net)

    def step() -> None:
        loss = backward(net, optimizer, [image], "sum", 1, None)
        optimizer.step(1e-14)
        float(loss)

    return step


def our_predict(net: FCN, image: SampledImage) -> Work:
    pixels = rgb(image.image).to(machine.device())

    @torch.no_grad()
    def predict() -> None:
        net.eval()(pixels).max(1)[1].cpu()

    return predict


def work(side: str, what: str, case: str) -> Work:
    """A step or a prediction in fp32 or bf16."""
    image, classes = sides.image(case)
    net, optimizer = our_net(classes, side)
    return our_step(net, optimizer, image) if what == "train" else our_predict(net, image)


if __name__ == "__main__":
    sides.serve(work(*sys.argv[1:]))
