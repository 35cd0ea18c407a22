"""The layers that torch does not have."""

import pytest
import torch
from torch import nn

from fcn.models.layers import (
    CAFFE,
    TORCHVISION,
    Dropout,
    FixedUpsampling,
    LearnedUpsampling,
    bilinear_kernel,
    bilinear_row,
    response_norm,
)


def test_the_bilinear_row_is_that_worked_by_hand_for_an_even_and_an_odd_size() -> None:
    assert bilinear_row(4).tolist() == [0.25, 0.75, 0.75, 0.25]  # f 2, c 1.5
    assert bilinear_row(3).tolist() == [0.5, 1.0, 0.5]  # f 2, c 1
    assert bilinear_row(5).tolist() == pytest.approx([1 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3])  # f 3, c 2


def test_the_bilinear_kernel_keeps_channels_apart() -> None:
    kernel = bilinear_kernel(2, 4)
    assert kernel[0, 1].abs().sum() == kernel[1, 0].abs().sum() == 0
    assert kernel[0, 0, 1].tolist() == [0.1875, 0.5625, 0.5625, 0.1875]


@pytest.mark.parametrize("expansion", [0, 1])
@pytest.mark.parametrize("factor", [2, 8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 2)])
def test_fixed_upsampling_equals_a_transposed_convolution(factor: int, size: tuple[int, int], expansion: int) -> None:
    kernel = 2 * factor - expansion
    score = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full = nn.functional.conv_transpose2d(score, bilinear_kernel(3, kernel), stride=factor)
    crop = factor // 2
    height, width = full.shape[2] - crop, full.shape[3] - crop - 1
    expected = full[:, :, crop : crop + height, crop : crop + width]
    result = FixedUpsampling(3, factor, kernel)(score, crop, (height, width))
    assert (result - expected).abs().max() < 1e-14
    learned = LearnedUpsampling(3, factor, kernel).double()(score, crop, (height, width))
    assert (learned - expected).abs().max() < 1e-14


def test_fixed_upsampling_takes_a_bilinear_kernel_and_refuses_another() -> None:
    layer = FixedUpsampling(3, 2, 4)
    assert layer.load_state_dict({"weight": bilinear_kernel(3, 4).float()}).missing_keys == []
    assert not layer.state_dict()
    for other in (2 * bilinear_kernel(3, 4), bilinear_kernel(4, 4), bilinear_kernel(3, 8)):
        with pytest.raises(RuntimeError, match="not the bilinear kernel"):
            layer.load_state_dict({"weight": other})


def test_preprocessing_orders_channels_and_takes_off_the_mean() -> None:
    image = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)  # red, green, blue
    caffe = CAFFE(image, torch.float64).flatten().tolist()
    assert caffe == pytest.approx([30 - 104.00699, 20 - 116.66877, 10 - 122.67892], abs=1e-12)
    vision = TORCHVISION(image, torch.float64).flatten().tolist()
    assert vision == pytest.approx([(10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225])


def test_preprocessing_reckons_in_full_precision_before_it_casts() -> None:
    image = torch.full((1, 3, 1, 1), 201, dtype=torch.uint8)
    exact = CAFFE(image, torch.float64)
    assert torch.equal(CAFFE(image, torch.bfloat16), exact.float().bfloat16())


def test_response_normalization_is_torchs_and_its_gradient_is_right() -> None:
    x = torch.randn(2, 7, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = nn.functional.local_response_norm(30 * x, 5, alpha=1e-4, beta=0.75, k=1.0)
    assert torch.allclose(response_norm(30 * x), expected, rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(response_norm, (30 * x,))


def test_dropout_of_an_image_does_not_depend_on_its_batch() -> None:
    layer, x = Dropout(0.5), torch.ones(3, 4, 5, 5)
    layer.generators = [torch.Generator().manual_seed(s) for s in (7, 8, 9)]
    together = layer(x)
    layer.generators = [torch.Generator().manual_seed(8)]
    assert torch.equal(layer(x[1:2])[0], together[1])
    assert set(together.unique().tolist()) == {0.0, 2.0}  # kept ones are scaled by 1 / (1 - p)


def test_dropout_is_element_wise_and_off_in_evaluation() -> None:
    layer, x = Dropout(0.5), torch.ones(1, 64, 8, 8)
    shares = layer(x).mean((2, 3)) / 2
    assert shares.min() > 0.2  # Dropout2d would drop whole channels
    assert shares.max() < 0.8
    assert torch.equal(layer.eval()(x), x)
