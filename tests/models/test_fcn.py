"""The nets: shapes for any size, names, and what a finer stride adds. Parity with the reference: tests/parity."""

from typing import Literal

import pytest
import torch

from fcn.models import FCN
from fcn.models.backbones import BACKBONES, vgg


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("pad", [100, "same"])
def test_logits_have_the_size_of_any_image(stride: int, pad: int | Literal["same"]) -> None:
    net = FCN(5, stride, "slim", pad=pad).eval()
    for height, width in [(1, 1), (31, 33), (32, 64), (65, 1), (97, 130)]:
        image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
        assert net(image).shape == (1, 5, height, width)


def test_layers_carry_the_names_of_the_caffe_reference() -> None:
    with torch.device("meta"):
        names = {name.partition(".")[0] for name in FCN(21, 8, "vgg16").state_dict()}
    convolutions = {f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)}
    assert names == convolutions | {"fc6", "fc7", "score_fr", "score_pool4", "score_pool3"}


def test_vgg16_has_the_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        net = FCN(21, 32, "vgg16")
    assert sum(p.numel() for p in net.parameters()) == 134_346_581  # table 1's 134 M, by hand: VGG16 less fc8, + score


def test_an_image_is_the_same_as_uint8_and_as_float() -> None:
    net = FCN(3, 8, "slim", pad="same").eval()
    image = torch.randint(0, 256, (1, 3, 20, 30), dtype=torch.uint8)
    assert torch.equal(net(image), net(image.float()))


@pytest.mark.parametrize(("arguments", "complaint"), [((3, 4), "stride 4"), ((3, 32, "resnet"), "resnet")])
def test_a_net_that_does_not_exist_is_refused(arguments: tuple[int, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        FCN(*arguments)


def test_only_8s_is_trained_at_once() -> None:
    with pytest.raises(ValueError, match="at once"):
        FCN(3, 16, "slim", at_once=True)


def test_only_the_first_convolution_has_the_border_whatever_the_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = vgg((2, 2, 3, 3, 3), (1, 3, 3, 2, 3), 4, norm=("conv",))  # batch norm: the border is not computed apart
    monkeypatch.setitem(BACKBONES, "slim", narrow)
    net = FCN(2, 8, "slim", pad=100).eval()
    pads = {name: layer.padding[0] for name, layer in net.named_children() if name.startswith("conv")}
    assert pads == {name: 100 if name == "conv1_1" else 1 for name in pads}
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 9, 7)).shape == (1, 2, 9, 7)
