"""One process of a group that torchrun starts for tests/runtime/test_processes.py; alone, if started by itself."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from fcn.runtime import machine

machine.prepare()
os.environ["FCN_DEVICE"] = "cpu"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from fcn import params  # noqa: E402
from fcn.data.labels import VOID  # noqa: E402
from fcn.data.sampling import SampledImage  # noqa: E402
from fcn.data.split import Split  # noqa: E402
from fcn.metrics import counting  # noqa: E402
from fcn.models import fcn  # noqa: E402
from fcn.models.backbones import vgg  # noqa: E402
from fcn.models.fcn import FCN  # noqa: E402
from fcn.rungs import checkpoint, rung  # noqa: E402
from fcn.runtime import distributed  # noqa: E402
from fcn.runtime.errors import UserError  # noqa: E402
from fcn.training import steps  # noqa: E402
from fcn.training.optimizer import Optimizer  # noqa: E402

# Narrow and without batch norm, which on a CPU has to see the whole batch.
fcn.BACKBONES["vgg16"] = vgg((2, 2, 3, 3, 3), (4, 6, 8, 8, 8), 12)
VOIDS = (0.05, 0.9, 0.4, 1.0)


class Noise:
    """Images whose masks have very different numbers of valid pixels, one wholly void among them."""

    def draw(self, step: int, share: range) -> list[SampledImage]:
        return [self._image(step, place) for place in share]

    def _image(self, step: int, place: int) -> SampledImage:
        rng = np.random.default_rng((step, place))
        mask = rng.integers(0, 8, (24, 33), dtype=np.uint8)
        mask[rng.random(mask.shape) < VOIDS[place]] = VOID
        return SampledImage("noise", rng.integers(0, 256, (24, 33, 3), dtype=np.uint8), mask, 100 * step + place)


def fresh(dtype: torch.dtype) -> FCN:
    torch.manual_seed(0)
    net = FCN(8, 8, "vgg16").to(dtype)  # its border too, which is computed apart
    net = net.to(memory_format=torch.channels_last)
    for layer in (net.score_fr, net.score_pool4, net.score_pool3):
        torch.nn.init.normal_(layer.weight, 0, 0.1)
    return net


def compare(out: Path, packed: Path, recipe: Path) -> None:
    """Writes what must not depend on how many processes there are."""
    experiment = params.load(recipe)
    found: dict[str, torch.Tensor] = {}
    with distributed.group() as group:
        net = fresh(torch.float32)
        optimizer, share = Optimizer(net, experiment), group.local_range(experiment.batch_size)
        drawn = Noise().draw(0, share)
        steps.backward(group.wrap(net), optimizer, drawn, "mean", experiment.train.accumulate, None, group)
        found |= {f"gradient/{name}": gradient.clone() for name, gradient in optimizer.gradients()}
        net = fresh(torch.float64)
        optimizer = Optimizer(net, experiment)
        losses = [
            step.loss
            for step in steps.steps(net, optimizer, Noise(), experiment, experiment.train, group=group)  # type: ignore[arg-type]
        ]
        found |= {f"weight/{name}": tensor for name, tensor in optimizer.state(net).items()}
        found["losses"] = torch.stack(losses)
        (counts,) = counting.count(net, Split(packed, "val"), group=group)
        found |= {"counts": counts.confusion, "image counts": counts.images}
        if group.is_leader:
            save_file({name: tensor.detach().contiguous() for name, tensor in found.items()}, out)


def train(dying: str) -> None:
    """FCN-32s in the checkout that is the working folder; `dying` is the rank of a process that dies once, or none."""
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" and os.environ.get("RANK", "0") == dying:
        checkpoint.SAVE_EVERY, record_step = 0.0, rung._record_step

        def die_after_two(step: steps.Step, *others: object) -> None:
            record_step(step, *others)  # type: ignore[arg-type]
            if step.number == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        rung._record_step = die_after_two  # type: ignore[assignment]
    checkpoint.SAVE_EVERY = 0.0
    rung.train_rung(
        stride=32,
        params=params.load(),
        data=Path("data/resized"),
        parent=Path("data/weights/backbone.safetensors"),
        published=Path("data/weights/published/fcn32s"),
        out=Path("data/weights/fcn32s.safetensors"),
        curves=Path("metrics/fcn32s"),
        validation=Path("metrics/figures/validation_fcn32s.png"),
    )


def lead(started_by_dvc: str) -> None:
    """Prints whether a group in which DVC started the process of this rank may write files."""
    if os.environ["RANK"] == started_by_dvc:
        os.environ["DVC_ROOT"] = str(Path.cwd())
    with distributed.group() as group:
        try:
            group.check_leader()
            print(f"rank {group.rank} goes on")
        except UserError as error:
            print(f"rank {group.rank}: {error}")


if __name__ == "__main__":
    tasks: dict[str, Callable[..., None]] = {"compare": compare, "train": train, "lead": lead}
    name, *words = sys.argv[1:]
    tasks[name](*(Path(word) if "/" in word else word for word in words))
