"""FCN-AlexNet beside the reference's prototxt, and beside a net of torch's own layers."""

from dataclasses import replace

import gradients
import pytest
import torch
from torch import nn

from fcn.inference import receptive_field
from fcn.models.backbones import BACKBONES, Pad
from fcn.models.fcn import FCN
from fcn.models.layers import bilinear_kernel


def test_parameters_are_those_of_the_prototxt() -> None:
    with torch.device("meta"):
        net = FCN(21, 32, "alexnet")
    assert {name: tuple(tensor.shape) for name, tensor in net.state_dict().items() if name.endswith("weight")} == {
        "conv1.weight": (96, 3, 11, 11),
        "conv2.weight": (256, 48, 5, 5),
        "conv3.weight": (384, 256, 3, 3),
        "conv4.weight": (384, 192, 3, 3),
        "conv5.weight": (256, 192, 3, 3),
        "fc6.weight": (4096, 256, 6, 6),
        "fc7.weight": (4096, 4096, 1, 1),
        "score_fr.weight": (21, 4096, 1, 1),
    }
    # Table 1 has 57 M: by hand, with biases 34,944 + 307,456 + 885,120 + 663,936 + 442,624 + 37,752,832 + 16,781,312
    # + 86,037.
    assert sum(tensor.numel() for tensor in net.parameters()) == 56_954_261


def test_map_sizes_of_an_image_of_500x375_are_those_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions round down, poolings up: (500 + 200 - 11) / 4 + 1 = 173, (173 - 3) / 2 + 1 = 86 and so on."""
    sizes: dict[str, tuple[int, ...]] = {}

    def record(name: str) -> None:
        net.get_submodule(name).register_forward_hook(lambda *call: sizes.update({name: tuple(call[2].shape[2:])}))

    with torch.device("meta"):
        net = FCN(21, 32, "alexnet")
        for name in ("conv1", "conv2", "conv3", "conv5", "fc6", "score_fr"):
            record(name)
        assert net(torch.empty(1, 3, 375, 500)).shape == (1, 21, 375, 500)
    assert sizes == {
        "conv1": (142, 173),
        "conv2": (71, 86),
        "conv3": (35, 43),
        "conv5": (35, 43),
        "fc6": (12, 16),
        "score_fr": (12, 16),
    }


def in_torchs_layers(net: FCN) -> nn.Sequential:
    """The prototxt of voc-fcn-alexnet, with the net's weights; without crop."""
    norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    relu = nn.ReLU()
    convolutions = [
        nn.Conv2d(3, 4, 11, stride=4, padding=100),
        nn.Conv2d(4, 6, 5, padding=2, groups=2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 6, 3, padding=1, groups=2),
        nn.Conv2d(6, 7, 6),
        nn.Conv2d(7, 7, 1),
        nn.Conv2d(7, 3, 1),
    ]
    for layer, name in zip(
        convolutions, ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "score_fr"), strict=True
    ):
        layer.double().load_state_dict(net.get_submodule(name).state_dict())
    upscore = nn.ConvTranspose2d(3, 3, 63, 32, bias=False, dtype=torch.float64)
    upscore.weight.data.copy_(bilinear_kernel(3, 63))
    one, two, three, four, five, fc6, fc7, score = convolutions
    first = [one, relu, pool, norm, two, relu, pool, norm]
    return nn.Sequential(*first, three, relu, four, relu, five, relu, pool, fc6, relu, fc7, relu, score, upscore)


def random_net(stride: int, pad: Pad) -> FCN:
    torch.manual_seed(0)
    net = FCN(3, stride, "alexnet", pad=pad).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.usefixtures("narrow_alexnet")
@pytest.mark.parametrize("size", [(1, 1), (33, 61), (120, 227)])
def test_logits_are_those_of_torchs_layers_cropped_by_18(size: tuple[int, int]) -> None:
    net = random_net(32, 100)
    image = torch.rand(2, 3, *size, dtype=torch.float64) * 255
    with torch.no_grad():
        expected = in_torchs_layers(net)(net.preprocessing(image, torch.float64))
        assert torch.allclose(net(image), expected[:, :, 18 : 18 + size[0], 18 : 18 + size[1]], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("narrow_alexnet")
@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("pad", [100, "same"])
def test_gradients_are_those_of_finite_differences(stride: int, pad: Pad) -> None:
    gradients.check(random_net(stride, pad), torch.rand(1, 3, 40, 35, dtype=torch.float64) * 255)


@pytest.mark.parametrize("pad", [100, "same"])
@pytest.mark.parametrize(("path", "stride"), [("fc7", 32), ("fc7", 16), ("fc7", 8), ("skips", 16), ("skips", 8)])
def test_every_path_is_centred_on_its_pixel(monkeypatch: pytest.MonkeyPatch, stride: int, pad: Pad, path: str) -> None:
    """With average pooling and equal weights, the mean position of what a pixel's logit depends on is the pixel."""
    narrow = replace(BACKBONES["alexnet"], pooling="avg", lrn=())
    monkeypatch.setitem(BACKBONES, "alexnet", replace(narrow, fc=4))
    net = FCN(1, stride, "alexnet", pad=pad).double().eval()
    for name, parameter in net.named_parameters():
        nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1 / parameter[0].numel())
    for name in ("score_pool4", "score_pool3") if path == "fc7" else ("score_fr",):
        if hasattr(net, name):
            nn.init.zeros_(net.get_submodule(name).weight)  # type: ignore[arg-type]
    image = torch.full((1, 3, 900, 1), 255.0, dtype=torch.float64, requires_grad=True)
    logits = net(image)
    rows = torch.arange(900, dtype=torch.float64)
    for pixel in range(430, 470):
        (gradient,) = torch.autograd.grad(logits[0, 0, pixel, 0], image, retain_graph=True)
        weights = gradient.sum((0, 1, 3))
        assert float((weights * rows).sum() / weights.sum()) == pytest.approx(pixel, abs=1e-6)


def test_fc6_sees_355_pixels_around_the_pixel_of_its_cell() -> None:
    """By hand: conv1 11, pool1 19, conv2 51, pool2 67, conv3 to conv5 99, 131, 163, pool5 195, fc6 195 + 5 · 32."""
    with torch.device("meta"):
        net = FCN(1, 32, "alexnet")
    assert receptive_field.window(net, 13 + 10 * 32) == (13 + 320 - 177, 13 + 320 + 177)
    with torch.device("meta"):
        same = FCN(1, 32, "alexnet", pad="same")
    assert receptive_field.window(same, 16 + 10 * 32) == (16 + 320 - 177, 16 + 320 + 177)


@pytest.mark.usefixtures("narrow_alexnet")
@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("pad", [100, "same"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 3), (31, 33)])
def test_any_size_gives_logits_of_its_size(stride: int, pad: Pad, size: tuple[int, int]) -> None:
    net = random_net(stride, pad)
    with torch.no_grad():
        assert net(torch.zeros(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.usefixtures("narrow_alexnet")
@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("pad", [100, "same"])
def test_maps_cover_images_of_any_size(stride: int, pad: Pad) -> None:
    """Transposed convolutions, unlike products, give no rows beyond their map. Sizes of maps repeat every 32 pixels."""
    with torch.device("meta"):
        net = FCN(3, stride, "alexnet", pad=pad, upsampling="learned")
        for side in range(1, 66):
            assert net(torch.empty(1, 3, side, 66 - side)).shape == (1, 3, side, 66 - side)
