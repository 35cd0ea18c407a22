"""FCN-GoogLeNet beside BVLC's prototxt, and beside a net of torch's own functions."""

from dataclasses import replace

import gradients
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fcn.inference import receptive_field
from fcn.models.backbones import BACKBONES, Pad, googlenet
from fcn.models.fcn import FCN
from fcn.models.layers import bilinear_kernel

# num_output in models/bvlc_googlenet/train_val.prototxt: 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj.
# Then weights and biases: for 3a, 192 · (64 + 96 + 16 + 32) + 9 · 96 · 128 + 25 · 16 · 32, and 368 biases.
PROTOTXT = {
    "inception_3a": ((64, 96, 128, 16, 32, 32), 163_696),
    "inception_3b": ((128, 128, 192, 32, 96, 64), 388_736),
    "inception_4a": ((192, 96, 208, 16, 48, 64), 376_176),
    "inception_4b": ((160, 112, 224, 24, 64, 64), 449_160),
    "inception_4c": ((128, 128, 256, 24, 64, 64), 510_104),
    "inception_4d": ((112, 144, 288, 32, 64, 64), 605_376),
    "inception_4e": ((256, 160, 320, 32, 128, 128), 868_352),
    "inception_5a": ((256, 160, 320, 32, 128, 128), 1_043_456),
    "inception_5b": ((384, 192, 384, 48, 128, 128), 1_444_080),
}
STRIDES_AND_PADS = [(stride, pad) for stride in (32, 16, 8) for pad in (100, "same")]


def test_parameters_are_those_of_the_prototxt() -> None:
    with torch.device("meta"):
        net = FCN(21, 32, "googlenet")
    expected = {
        "conv1/7x7_s2": (64, 3, 7, 7),
        "conv2/3x3_reduce": (64, 64, 1, 1),
        "conv2/3x3": (192, 64, 3, 3),
        "score_fr": (21, 1024, 1, 1),
    }
    inputs = 192
    for name, ((one, reduce3, three, reduce5, five, pooled), count) in PROTOTXT.items():
        shapes = {
            f"{name}/1x1": (one, inputs, 1, 1),
            f"{name}/3x3_reduce": (reduce3, inputs, 1, 1),
            f"{name}/3x3": (three, reduce3, 3, 3),
            f"{name}/5x5_reduce": (reduce5, inputs, 1, 1),
            f"{name}/5x5": (five, reduce5, 5, 5),
            f"{name}/pool_proj": (pooled, inputs, 1, 1),
        }
        expected |= shapes
        inputs = one + three + five + pooled
        assert sum(p.numel() for layer in shapes for p in net.get_submodule(layer).parameters()) == count
    state = net.state_dict()
    assert {n.removesuffix(".weight"): tuple(t.shape) for n, t in state.items() if n.endswith("weight")} == expected
    # Table 1 of the paper has 6 M: by hand, 9,472 + 4,160 + 110,784 in conv1 and conv2, 5,849,136 in the inceptions,
    # 21 · 1025 in score_fr.
    assert sum(tensor.numel() for tensor in net.parameters()) == 5_973_552 + 21_525


def test_map_sizes_of_an_image_of_500x375_are_those_worked_by_hand() -> None:
    """Convolutions round down, poolings up: (500 + 200 - 7) / 2 + 1 = 347, (347 - 3) / 2 + 1 = 173 and so on."""
    sizes: dict[str, tuple[int, ...]] = {}

    def record(name: str) -> None:
        net.get_submodule(name).register_forward_hook(lambda *call: sizes.update({name: tuple(call[2].shape[2:])}))

    with torch.device("meta"):
        net = FCN(21, 8, "googlenet")
        names = ("conv1/7x7_s2", "conv2/3x3", "score_pool3", "score_pool4", "inception_4e/5x5", "score_fr")
        for name in names:
            record(name)
        assert net(torch.empty(1, 3, 375, 500)).shape == (1, 21, 375, 500)
    maps = [(285, 347), (142, 173), (71, 86), (35, 43), (35, 43), (17, 21)]
    assert sizes == dict(zip(names, maps, strict=True))


def in_torchs_functions(net: FCN, image: Tensor, before: int) -> list[Tensor]:
    """The maps of BVLC's prototxt with the net's weights: pool2, pool3 and the last inception.

    before   zeros around the poolings: none in Caffe; 1, with which they are halved and rounded up, for pad same
    """

    def relu(x: Tensor, name: str, stride: int = 1, pad: int = 0) -> Tensor:
        layer = net.get_submodule(name)
        return functional.conv2d(x, layer.weight, layer.bias, stride, pad).relu()  # type: ignore[arg-type]

    def pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3, 2, before, ceil_mode=not before)

    def norm(x: Tensor) -> Tensor:
        return functional.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

    def inception(x: Tensor, name: str) -> Tensor:
        one = relu(x, f"{name}/1x1")
        three = relu(relu(x, f"{name}/3x3_reduce"), f"{name}/3x3", pad=1)
        five = relu(relu(x, f"{name}/5x5_reduce"), f"{name}/5x5", pad=2)
        projected = relu(functional.max_pool2d(x, 3, 1, 1), f"{name}/pool_proj")
        return torch.cat([one, three, five, projected], 1)

    x = norm(pool(relu(image, "conv1/7x7_s2", 2, 3 if before else 100)))
    x = pool2 = pool(norm(relu(relu(x, "conv2/3x3_reduce"), "conv2/3x3", pad=1)))
    x = pool3 = pool(inception(inception(x, "inception_3a"), "inception_3b"))
    for letter in "abcde":
        x = inception(x, f"inception_4{letter}")
    x = inception(inception(pool(x), "inception_5a"), "inception_5b")
    return [pool2, pool3, x]


def random_net(stride: int, pad: Pad) -> FCN:
    torch.manual_seed(0)
    net = FCN(3, stride, "googlenet", pad=pad).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.dim() == 1 else (2 / parameter[0].numel()) ** 0.5)
    return net


@pytest.mark.usefixtures("narrow_googlenet")
@pytest.mark.parametrize("size", [(1, 1), (33, 61), (120, 227)])
@pytest.mark.parametrize("pad", [100, "same"])
def test_the_trunk_is_that_of_torchs_functions(pad: Pad, size: tuple[int, int]) -> None:
    net, before = random_net(32, pad), 0 if pad == 100 else 1
    image = torch.rand(2, 3, *size, dtype=torch.float64) * 255 - 120
    with torch.no_grad():
        expected = in_torchs_functions(net, image, before)
        for ours, theirs in zip(net.maps(image), reversed(expected), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
            assert ours.any()


@pytest.mark.usefixtures("narrow_googlenet")
@pytest.mark.parametrize("size", [(1, 1), (33, 61), (120, 227)])
def test_logits_of_fcn32s_are_those_of_torchs_functions_cropped_by_98(size: tuple[int, int]) -> None:
    """Cell i is centred on pixel 32 i + 33 - 100, and 32 i + 31 of a transposed convolution of 63: 98 less."""
    net = random_net(32, 100)
    image = torch.rand(1, 3, *size, dtype=torch.float64) * 255
    with torch.no_grad():
        *_, last = in_torchs_functions(net, net.preprocessing(image, torch.float64), 0)
        scores = functional.conv2d(last, net.score_fr.weight, net.score_fr.bias)
        full = functional.conv_transpose2d(scores, bilinear_kernel(3, 63), stride=32)
        assert torch.allclose(net(image), full[:, :, 98 : 98 + size[0], 98 : 98 + size[1]], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("narrow_googlenet")
@pytest.mark.parametrize(("stride", "pad"), STRIDES_AND_PADS)
def test_gradients_are_those_of_finite_differences(stride: int, pad: Pad) -> None:
    gradients.check(random_net(stride, pad), torch.rand(1, 3, 40, 35, dtype=torch.float64) * 255)


@pytest.mark.parametrize("pad", [100, "same"])
@pytest.mark.parametrize(("path", "stride"), [("last", 32), ("last", 16), ("last", 8), ("skips", 16), ("skips", 8)])
def test_every_path_is_centred_on_its_pixel(monkeypatch: pytest.MonkeyPatch, stride: int, pad: Pad, path: str) -> None:
    """With average pooling and equal weights, the mean position of what a pixel's logit depends on is the pixel."""
    monkeypatch.setitem(BACKBONES, "googlenet", replace(googlenet(16), pooling="avg", lrn=()))
    net = FCN(1, stride, "googlenet", pad=pad).double().eval()
    for name, parameter in net.named_parameters():
        nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1 / parameter[0].numel())
    for name in ("score_pool4", "score_pool3") if path == "last" else ("score_fr",):
        if hasattr(net, name):
            nn.init.zeros_(net.get_submodule(name).weight)  # type: ignore[arg-type]
    image = torch.full((1, 3, 900, 1), 255.0, dtype=torch.float64, requires_grad=True)
    logits = net(image)
    rows = torch.arange(900, dtype=torch.float64)
    for pixel in range(430, 462):
        (gradient,) = torch.autograd.grad(logits[0, 0, pixel, 0], image, retain_graph=True)
        weights = gradient.sum((0, 1, 3))
        assert float((weights * rows).sum() / weights.sum()) == pytest.approx(pixel, abs=1e-6)


def test_the_last_inception_sees_715_pixels_around_the_pixel_of_its_cell() -> None:
    """By hand: conv1 7, pool1 11, conv2 19, pool2 27, 3a and 3b 59, 91, pool3 107, 4a to 4e 171 to 427, pool4 459,
    5a and 5b 587, 715. With the average pooling that is left out, 715 + 6 · 32 = 907, as in table 1 of the paper.
    """
    with torch.device("meta"):
        net, same = FCN(1, 32, "googlenet"), FCN(1, 32, "googlenet", pad="same")
    assert receptive_field.window(net, 12 * 32 - 67) == (12 * 32 - 67 - 357, 12 * 32 - 67 + 357)
    assert receptive_field.window(same, 12 * 32) == (12 * 32 - 357, 12 * 32 + 357)


@pytest.mark.usefixtures("narrow_googlenet")
@pytest.mark.parametrize(("stride", "pad"), STRIDES_AND_PADS)
def test_maps_cover_images_of_any_size(stride: int, pad: Pad) -> None:
    """Transposed convolutions, unlike products, give no rows beyond their map. Sizes of maps repeat every 32 pixels."""
    with torch.device("meta"):
        net = FCN(3, stride, "googlenet", pad=pad, upsampling="learned")
        for side in range(1, 66):
            assert net(torch.empty(1, 3, side, 66 - side)).shape == (1, 3, side, 66 - side)


@pytest.mark.usefixtures("narrow_googlenet")
def test_dropout_is_applied_once_before_the_score_layer() -> None:
    """As before the classifier of BVLC's net; the paper keeps dropout where the original net has it."""
    torch.manual_seed(0)
    net, seen = FCN(3, 16, "googlenet", dropout=0.4, pad="same").train(), []
    net.score_fr.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    image = torch.rand(1, 3, 320, 320) * 255
    net(image)
    net.eval()(image)
    dropped, whole = seen
    assert len(net.dropouts) == 1
    assert float((dropped == 0)[whole > 0].float().mean()) == pytest.approx(0.4, abs=0.05)
    kept = (dropped > 0) & (whole > 0)
    assert torch.allclose(dropped[kept], whole[kept] / 0.6, rtol=1e-4)


@pytest.mark.parametrize(("slim", "wide"), [("slim_googlenet", "googlenet"), ("slim_alexnet", "alexnet")])
@pytest.mark.parametrize("pad", [100, "same"])
def test_slim_nets_have_the_geometry_of_the_wide_ones_and_a_quarter_of_the_channels(
    slim: str, wide: str, pad: Pad
) -> None:
    with torch.device("meta"):
        ours, theirs = FCN(3, 8, slim, pad=pad), FCN(3, 8, wide, pad=pad)
    assert receptive_field.context(ours) == receptive_field.context(theirs)
    for name, layer in theirs.named_modules():
        if isinstance(layer, nn.Conv2d) and not name.startswith("score"):
            share = 8 if name.startswith("fc") else 4
            assert ours.get_parameter(f"{name}.bias").shape == (layer.out_channels // share,)
    norms = [module for module in ours.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == sum(
        isinstance(layer, nn.Conv2d) and not name.startswith("score") for name, layer in ours.named_modules()
    )
