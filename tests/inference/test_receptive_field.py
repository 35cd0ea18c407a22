"""What a pixel depends on, by hand and by NaN; and every pixel's logits in tiles are the whole image's."""

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fcn.inference import prediction, receptive_field
from fcn.kernels import resizing
from fcn.models.fcn import FCN
from fcn.runtime.errors import UserError

pytestmark = pytest.mark.usefixtures("narrow_vgg16", "narrow_alexnet", "narrow_googlenet")


def narrow(stride: int, pad: int | Literal["same"], **more: object) -> FCN:
    """A net of VGG16's or another backbone's geometry, in fp64, whose every layer contributes."""
    torch.manual_seed(1)
    net = FCN(3, stride, pad=pad, **more).double().eval()  # type: ignore[arg-type]
    for name, parameter in net.named_parameters():
        if not name.startswith("upscore"):  # nothing dies in a ReLU
            torch.nn.init.uniform_(parameter, 0.0, 1.0)
    return net


def test_the_context_of_fcn32s_is_that_of_vgg16_by_hand() -> None:
    """fc6 sees 404 pixels and moves by 32; a pixel has two cells of it, whose windows span 436.

    Cell i is centred on pixel 32 i + 15.5 and upsampled over 32 i - 16 .. 32 i + 47: a pixel is at most 31.5
    from its farther cell's centre, and that cell's window reaches 201.5 further.
    """
    assert receptive_field.context(FCN(3, 32, "slim", pad="same")) == (233, 233)  # slim has VGG16's geometry


@pytest.mark.parametrize(("backbone", "length"), [("vgg16", 640), ("alexnet", 640), ("googlenet", 1000)])
@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("pad", [100, "same"])
def test_a_pixel_that_is_no_number_reaches_just_the_pixels_whose_window_it_is_in(
    stride: int, pad: int | Literal["same"], backbone: str, length: int
) -> None:
    """NaN goes through every layer that sees it; transposed convolutions, unlike products, spread it no further."""
    net = narrow(stride, pad, backbone=backbone, upsampling="learned")
    windows = {pixel: receptive_field.window(net, pixel) for pixel in range(length)}
    for row in (length // 2, length // 2 + 11, length // 2 + 31):
        image = torch.zeros(1, 3, length, 1, dtype=torch.float64)
        image[0, :, row] = torch.nan
        with torch.no_grad():
            touched = torch.nonzero(net(image)[0, 0, :, 0].isnan()).flatten().tolist()
        assert touched == [pixel for pixel, (first, last) in windows.items() if first <= row <= last]


@pytest.mark.parametrize(
    ("stride", "pad", "width", "height", "backbone"),
    [
        (32, "same", 40, 1011, "vgg16"),
        (16, "same", 1011, 40, "vgg16"),
        (8, "same", 700, 720, "vgg16"),
        (32, 100, 1, 1000, "vgg16"),
        (8, 100, 970, 3, "vgg16"),
        (32, 100, 1000, 30, "alexnet"),
        (8, "same", 30, 1000, "alexnet"),
        (32, 100, 1300, 20, "googlenet"),
        (16, "same", 20, 1300, "googlenet"),
        (8, 100, 30, 1300, "googlenet"),
    ],
)
def test_logits_in_tiles_are_those_of_the_whole_image(
    stride: int, pad: int | Literal["same"], width: int, height: int, backbone: str
) -> None:
    net = narrow(stride, pad, backbone=backbone)
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    with torch.no_grad():
        whole = net(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    tiled = torch.full_like(whole, torch.nan)
    count = 0
    tile = 900 if backbone == "googlenet" else 640
    for rows, columns, logits in prediction.tiles(net, Image.fromarray(pixels), tile, (width, height)):
        tiled[:, rows, columns] = logits
        count += 1
    assert count > 1
    assert torch.allclose(tiled, whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [(1500, 90), (1031, 41), (700, 1), (1, 40), (1030, 97)])
def test_resized_logits_of_tiles_are_those_that_torch_makes_of_the_whole_image(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    net = narrow(8, "same")
    monkeypatch.setattr(resizing, "STRIP", 10_000)  # values: several strips a tile
    pixels = np.random.default_rng(1).integers(0, 256, (40, 1030, 3), np.uint8)
    with torch.no_grad():
        whole = net(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    expected = torch.nn.functional.interpolate(whole, size[::-1], mode="bilinear", align_corners=False)[0]
    found = torch.full_like(expected, torch.nan)
    for rows, columns, logits in prediction.tiles(net, Image.fromarray(pixels), 640, size):
        assert found[:, rows, columns].isnan().all()
        found[:, rows, columns] = logits
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_tiles_without_their_context_would_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above can fail: with a grid less of context it does."""
    net = narrow(32, "same")
    pixels = np.random.default_rng(1).integers(0, 256, (40, 1100, 3), np.uint8)
    with torch.no_grad():
        whole = net(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    monkeypatch.setattr(prediction, "context", lambda net: (233 - 64, 233 - 64))
    tiles = prediction.tiles(net, Image.fromarray(pixels), 640, (1100, 40))
    same = [torch.allclose(logits, whole[:, rows, columns]) for rows, columns, logits in tiles]
    assert not all(same)


@given(st.integers(1, 5000), st.integers(600, 2000), st.integers(0, 260), st.integers(0, 260))
@settings(max_examples=300, deadline=None)
def test_tiles_begin_on_the_grid_and_keep_each_pixel_once_with_its_context(
    length: int, tile: int, before: int, after: int
) -> None:
    parts = list(receptive_field.on_grid(length, tile, (before, after)))
    assert parts[0].first == 0
    assert parts[-1].last == length
    assert all(a.last == b.first for a, b in pairwise(parts))
    for part in parts:
        assert part.start % 32 == 0
        assert 0 < part.stop - part.start <= tile
        assert part.first < part.last
        assert part.start == 0 or part.start <= part.first - before
        assert part.stop == length or part.last - 1 + after < part.stop


def test_tiles_that_would_keep_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="tiles of 300 pixels are too small for this net; write 530 or more"):
        list(receptive_field.on_grid(1000, 300, (233, 233)))
    assert len(list(receptive_field.on_grid(300, 300, (233, 233)))) == 1  # one tile is the whole
