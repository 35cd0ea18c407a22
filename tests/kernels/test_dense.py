"""fc6 and fc7 as matrix products."""

import pytest
import torch
from torch import nn

from fcn.kernels.dense import DenseConvolution, _Windows


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2), (4, 4), (9, 12)])
@pytest.mark.parametrize(("kernel", "border"), [(7, 3), (1, 0)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 0.02)])
def test_a_dense_convolution_and_its_gradients_are_those_of_a_convolution(
    size: tuple[int, int], kernel: int, border: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    layer = DenseConvolution(64, 32, kernel).to(dtype).to(memory_format=torch.channels_last)
    oracle = nn.Conv2d(64, 32, kernel, padding=border).double()
    oracle.load_state_dict(layer.state_dict())
    x = torch.randn(2, 64, *size).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    y = x.detach().double().requires_grad_()
    result, expected = layer(nn.functional.pad(x, [border] * 4)), oracle(y)
    push = torch.randn_like(result)
    result.backward(push)
    expected.backward(push.double())
    pairs = [(result, expected), (x.grad, y.grad), (layer.weight.grad, oracle.weight.grad)]
    for ours, theirs in [*pairs, (layer.bias.grad, oracle.bias.grad)]:
        assert ours is not None
        assert theirs is not None
        assert (ours.double() - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize(("kernel", "size"), [(7, (7, 9)), (7, (12, 10)), (1, (3, 4))])
def test_windows_and_their_gradients_are_those_of_unfold_to_the_bit(kernel: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = torch.randn(2, *size, 5, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    windows = _Windows.apply(ours, kernel)
    expected = theirs.unfold(1, kernel, 1).unfold(2, kernel, 1).permute(0, 1, 2, 4, 5, 3)
    push = torch.randn(windows.shape)
    windows.backward(push)
    expected.backward(push)
    assert torch.equal(windows, expected)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
