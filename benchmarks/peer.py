"""torchfcn's FCN-8s with its own loss and parameter groups, as a peer to be measured against; not crippled."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fcn import machine
from fcn.labels import VOID
from fcn.sampling import Drawn
from tests.parity import oracle


def peer_step(classes: int, image: Drawn) -> Callable[[], object]:
    """One step of its heavy recipe, images and labels already where they are needed."""
    models, trainer = oracle.load()
    net = models.FCN8s(classes).to(machine.device()).train()
    optimizer = torch.optim.SGD(oracle.groups(net, 1e-14), momentum=0.99)
    x = oracle.bgr(image.image, torch.float32).to(machine.device())
    mask = torch.from_numpy(np.where(image.mask == VOID, -1, image.mask.astype(np.int64)))[None].to(machine.device())

    def step() -> None:
        optimizer.zero_grad()
        loss = trainer.cross_entropy2d(net(x), mask, size_average=False)
        loss.backward()
        optimizer.step()
        float(loss)

    return step


def peer_predict(classes: int, image: Drawn) -> Callable[[], object]:
    """Its scores' best class at every pixel."""
    models, _ = oracle.load()
    net = models.FCN8s(classes).to(machine.device()).eval()
    x = oracle.bgr(image.image, torch.float32).to(machine.device())

    @torch.no_grad()
    def predict() -> Tensor:
        return net(x).max(1)[1].cpu()  # type: ignore[no-any-return]

    return predict
