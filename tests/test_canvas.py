"""The border that is left out changes nothing. Beside torchfcn's nets: tests/parity."""

import pytest
import torch

from fcn import models
from fcn.canvas import BORDER, Canvas, Copies, compact
from fcn.models import FCN, Backbone


def test_what_is_left_out_of_vgg16_is_what_was_worked_by_hand() -> None:
    """Two convolutions from a border of p leave p - 3 rows clear of the image, of which one feels the edge.

    Pooled, row 1 is like its neighbours if (p - 3) // 2 is 2 or more: p is 8, being even. The same again
    with 2 + (p - 8) / 2 clear rows gives 20, and with 3 + (p - 20) / 4 and three convolutions 52.
    """
    canvas = compact((2, 2, 3, 3, 3))
    assert canvas == Canvas(8, (Copies(1, 6), Copies(2, 8), Copies(3, 6)))
    assert BORDER == 8 + 2 * 6 + 4 * 8 + 8 * 6


def test_copies_stand_beside_what_they_copy_and_return_their_gradients() -> None:
    x = torch.arange(25, dtype=torch.float64).view(1, 1, 5, 5).requires_grad_()
    wide = Copies(1, 2)(x)
    rows = [0, 1, 1, 1, 2, 3, 3, 3, 4]
    assert wide[0, 0, :, 2].tolist() == [5 * row + 1 for row in rows]
    assert wide[0, 0, 4].tolist() == [10 + column for column in rows]
    wide.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    times = torch.tensor([1, 3, 1, 3, 1], dtype=torch.float64)
    assert torch.equal(x.grad[0, 0], torch.outer(times, times))


@pytest.mark.parametrize("backbone", ["vgg16", "vgg19", "vgg19_avg"])
def test_logits_and_gradients_are_those_of_the_full_border(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = models.BACKBONES[backbone]
    narrow = Backbone(wide.convolutions, (3, 4, 4, 5, 5), 6, pooling=wide.pooling)
    monkeypatch.setitem(models.BACKBONES, "narrow", narrow)
    generator = torch.Generator().manual_seed(0)
    for height, width in [(1, 2), (3, 37), (16, 31), (33, 4), (45, 70)]:
        torch.manual_seed(height)
        net = FCN(3, 8, "narrow", dropout=0.0).double()
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):  # with biases of zero the whole border would be zero
                torch.nn.init.normal_(parameter, 0, 0.5)
        image = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
        push = torch.randn(2, 3, height, width, dtype=torch.float64, generator=generator)
        results = []
        for canvas in (net.canvas, Canvas(BORDER)):
            net.canvas, net.conv1_1.padding = canvas, (canvas.border, canvas.border)
            net.zero_grad()
            logits = net(image)
            logits.backward(push)
            results.append([logits.detach(), *(p.grad for p in net.parameters())])
        for ours, full in zip(*results, strict=True):
            assert (ours - full).abs().max() <= 1e-12 * full.abs().max()


def test_batch_norm_sees_the_whole_border() -> None:
    assert FCN(3, 8, "vgg16_bn", pad=100).canvas == Canvas(BORDER)
