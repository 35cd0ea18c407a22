"""fc6 and fc7 as matrix products, with weight gradients as two factors."""

from typing import Any

import torch
from torch import Tensor, nn


class DenseConvolution(nn.Conv2d):
    """fc6 or fc7: a convolution with many weights, few output positions and no padding, as one matrix product.

    On a CPU this is faster than torch's convolution, which reorders all weights on every call (fc7 in bf16: 7 times
    faster). It also avoids a bug: oneDNN's bf16 weight gradient of a 7×7 kernel with padding 3, on a map of at most
    2 rows or columns, reads uninitialized memory (torch 2.14.1).

    If `factors` is a list, backward appends two factors to it instead of computing the weight gradient: the output
    gradient, (rows, out), and the layer's input, (rows, in). The weight gradient, which is as large as the weights,
    is their product; the optimizer computes it block by block and never needs memory for all of it.
    """

    factors: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x        (N, C, H, W)
        returns  as Conv2d
        """
        windows = _Windows.apply(x.permute(0, 2, 3, 1), self.kernel_size[0])
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        flat = windows.view(-1, weight.shape[1])
        rows: Tensor
        if self.factors is None or not weight.requires_grad:
            rows = nn.functional.linear(flat, weight, self.bias)
        else:
            rows = _Product.apply(flat, weight, self.bias, self.factors)
        return rows.view(*windows.shape[:3], -1).permute(0, 3, 1, 2)


class _Windows(torch.autograd.Function):
    """All size×size windows of a map: (N, h, w, size, size, C) from (N, H, W, C).

    The backward pass adds in the same order as that of torch's unfold, in a tenth of the time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        return x.unfold(1, size, 1).unfold(2, size, 1).permute(0, 1, 2, 4, 5, 3).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        count, height, width, size, _, channels = gradient.shape
        rows = gradient.new_zeros(count, height, width + size - 1, size, channels)
        for column in reversed(range(size)):
            rows[:, :, column : column + width] += gradient[:, :, :, :, column]
        x = gradient.new_zeros(count, height + size - 1, width + size - 1, channels)
        for row in reversed(range(size)):
            x[:, row : row + height] += rows[:, :, :, row]
        return x, None


class _Product(torch.autograd.Function):
    """x @ weight.T + bias; backward leaves the weight gradient as two factors, the output gradient and x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, factors: list[tuple[Tensor, Tensor]]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.factors = factors
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        ctx.factors.append((gradient, x.detach()))
        return gradient @ weight, None, gradient.sum(0), None
