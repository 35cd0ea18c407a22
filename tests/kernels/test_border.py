"""What is computed apart changes nothing. Beside torchfcn's nets: tests/parity."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from fcn.kernels.border import BORDER, Bordered, Span
from fcn.models import fcn
from fcn.models.backbones import vgg
from fcn.models.fcn import FCN


def nonzero_range(values: Tensor) -> tuple[int, int]:
    """First row and end of those that are not zero."""
    rows = values.flatten().nonzero().flatten().tolist()
    return rows[0], rows[-1] + 1


@pytest.mark.parametrize("pixels", [*range(1, 34), 224, 375, 500])
def test_rows_feel_what_a_net_of_ones_says(pixels: int) -> None:
    """Ones for the image between zeros show what feels it; ones everywhere what feels the zeros beyond the edge."""
    ones = torch.ones(1, 1, 3, dtype=torch.float64)
    image = nn.functional.conv1d(torch.ones(1, 1, pixels, dtype=torch.float64), ones, padding=BORDER)
    even = torch.ones_like(image)  # conv1_1's: beyond the edge lies more of the same
    begun = Bordered.begin(nn.Conv2d(3, 1, 3), torch.zeros(1, 3, pixels, 1))
    span = begun.rows
    assert begun.image.shape == (1, 1, pixels + 2, 3)
    for block, count in enumerate((2, 2, 3, 3), 1):
        for _ in range(count - (block == 1)):
            image = (nn.functional.conv1d(image, ones, padding=1) > 0).double()
            even = nn.functional.conv1d(even, ones, padding=1) / 3
            span = span.convolved()
        image, even = (nn.functional.max_pool1d(x, 2, 2, ceil_mode=True) for x in (image, 1 - even))
        even = 1 - even  # of a window the row that feels the edge most
        span = span.pooled()
        near = even.flatten().lt(1).long().argmin()
        far = even.flatten().flip(0).lt(1).long().argmin()
        assert span == Span(image.shape[2], *nonzero_range(image), int(near), int(far))
        assert span.separable


def test_the_image_meets_the_edge_in_block_5() -> None:
    """Behind pool4 three rows feel the edge, and the fourth feels the image: conv5_1 sees both at once."""
    net = FCN(3, 8, dropout=0.0)
    calls: Counter[str] = Counter()
    shapes = {}

    def record_call(name: str, output: Tensor) -> None:
        calls[name] += 1
        shapes[name] = tuple(output.shape[2:])

    for name, layer in net.named_children():
        layer.register_forward_hook(lambda layer, inputs, output, name=name: record_call(name, output))
    with torch.no_grad():
        net(torch.zeros(1, 3, 32, 48, dtype=torch.uint8))
    twice = {name for name, count in calls.items() if count == 2}
    assert twice == {f"conv{i}_{j}" for i, count in enumerate((2, 2, 3, 3), 1) for j in range(1, count + 1)} - {
        "conv1_1"
    }
    # Who listens hears of the image last. 32 pixels: 34 and 36 rows in block 1, 18 are pooled and one more at each
    # end, and so on.
    assert shapes["conv1_1"] == (34, 50)
    assert shapes["conv1_2"] == (36, 52)
    assert shapes["conv5_1"] == ((32 + 198 + 15) // 16, (48 + 198 + 15) // 16)


@pytest.mark.parametrize("backbone", ["vgg16", "vgg19", "vgg19_avg"])
def test_logits_and_gradients_are_those_of_the_full_border(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = fcn.BACKBONES[backbone]
    narrow = vgg([len(block) for block in wide.blocks], (3, 4, 4, 5, 5), 6, pooling=wide.pooling)
    monkeypatch.setitem(fcn.BACKBONES, "narrow", narrow)
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
        for apart in (True, False):
            net.zero_grad()
            logits = net(image)
            logits.backward(push)
            results.append([logits.detach(), *(p.grad for p in net.parameters())])
            if apart:  # now as the reference computes it
                net.separate_border = False
                for name, layer in net.named_children():
                    if name.startswith("conv"):
                        layer.padding = (BORDER, BORDER) if name == "conv1_1" else (1, 1)
        for ours, full in zip(*results, strict=True):
            assert (ours - full).abs().max() <= 1e-12 * full.abs().max()


def test_batch_norm_sees_the_whole_border() -> None:
    net = FCN(3, 8, "vgg16_bn", pad=100)
    assert not net.separate_border
    assert net.conv1_1.padding == (BORDER, BORDER)
