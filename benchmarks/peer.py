"""torchfcn's FCN-8s with its default settings, in its own process, without fcn's malloc and OpenMP settings."""

import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks import sides
from fcn.data.labels import VOID
from fcn.data.sampling import SampledImage
from tests.parity import oracle

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # machine.device would make torch deterministic


def peer_step(classes: int, image: SampledImage) -> Callable[[], object]:
    """One step of its heavy recipe, images and labels already where they are needed."""
    models, trainer = oracle.load()
    net = models.FCN8s(classes).to(DEVICE).train()
    optimizer = torch.optim.SGD(oracle.groups(net, 1e-14), momentum=0.99)
    x = oracle.bgr(image.image, torch.float32).to(DEVICE)
    labels = image.mask.reshape(image.mask.shape[:2])
    mask = torch.from_numpy(np.where(labels == VOID, -1, labels.astype(np.int64)))[None].to(DEVICE)

    def step() -> None:
        optimizer.zero_grad()
        loss = trainer.cross_entropy2d(net(x), mask, size_average=False)
        loss.backward()
        optimizer.step()
        float(loss)

    return step


def peer_predict(classes: int, image: SampledImage) -> Callable[[], object]:
    """Its scores' best class at every pixel."""
    models, _ = oracle.load()
    net = models.FCN8s(classes).to(DEVICE).eval()
    x = oracle.bgr(image.image, torch.float32).to(DEVICE)

    @torch.no_grad()
    def predict() -> Tensor:
        return net(x).max(1)[1].cpu()  # type: ignore[no-any-return]

    return predict


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # distutils
    warnings.simplefilter("ignore", UserWarning)  # a loss read with its gradient
    what, case = sys.argv[1:]
    drawn, classes = sides.image(case)
    sides.serve((peer_step if what == "train" else peer_predict)(classes, drawn))
