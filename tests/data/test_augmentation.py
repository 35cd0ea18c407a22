"""Random changes of training images: what moves, what is ignored, and what stays as it was."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from fcn.data import augmentation
from fcn.data.labels import VOID, UInt8
from fcn.data.sampling import SampledImage, Sampler
from fcn.data.scale import shrink
from fcn.models import FCN
from fcn.params import Params

Small = Callable[..., Params]
RED, BLUE = (170, 70, 50), (50, 70, 170)
ON = {
    "data.jitter": 9,
    "data.scale": [0.5, 2.0],
    "data.colour": 0.3,
    "data.loss_sampling": 0.5,
    "data.crop": "72x56",
}


class Blocks:
    """Five images of 96×80 in blocks of 16 pixels: class 1 is red, class 0 blue; channels 3 and 4 are 200 × class."""

    def __init__(self, channels: int = 3) -> None:
        self.channels = channels

    def __len__(self) -> int:
        return 5

    def name(self, i: int) -> str:
        return str(i)

    def mask(self, i: int) -> UInt8:
        return np.random.default_rng(i).integers(0, 2, (5, 6), np.uint8).repeat(16, 0).repeat(16, 1)

    def masks(self, i: int) -> UInt8:
        return self.mask(i)[..., None].repeat(2, -1)

    def image(self, i: int) -> UInt8:
        mask = self.mask(i)
        colours = np.array([BLUE, RED], np.uint8)[mask]
        return np.concatenate([colours, *[200 * mask[..., None]] * (self.channels - 3)], -1)


def sampler(experiment: Params, split: Blocks | None = None, batch_size: int = 2) -> Sampler:
    return Sampler(split or Blocks(), experiment.data, seed=1, stride=32, batch_size=batch_size)  # type: ignore[arg-type]


def many(experiment: Params, split: Blocks | None = None) -> list[SampledImage]:
    drawn = sampler(experiment, split)
    return [image for step in range(30) for image in drawn.draw(step)]


@pytest.mark.parametrize("options", [{key: value} for key, value in ON.items()] + [ON])
@pytest.mark.parametrize("channels", [3, 5])
def test_image_and_mask_move_together_under_every_option(small: Small, options: dict[str, Any], channels: int) -> None:
    shown, voids = 0.0, []
    for one in many(small(**options), Blocks(channels)):
        height, width = (56, 72) if "data.crop" in options else (80, 96)
        assert (one.image.shape, one.mask.shape) == ((height, width, channels), (height, width, 2))
        reddish = one.image[..., 0].astype(int) - one.image[..., 2]
        pure = np.abs(reddish) > 0.9 * np.abs(reddish).max()  # not between two blocks
        assert (one.mask[..., 0] == one.mask[..., 1]).all()
        valid = one.mask[..., 0] != VOID
        assert ((reddish > 0) == one.mask[..., 0])[pure & valid].all()
        for extra in range(3, channels):
            assert (np.abs(one.image[..., extra] - 200 * one.mask[..., 0].astype(int)) < 25)[pure & valid].all()
        shown += (pure & valid).mean() / 60
        voids.append(1 - valid.mean())
    assert shown > 0.35
    # Only these options ignore pixels.
    assert any(voids) == bool(options.keys() & {"data.jitter", "data.scale", "data.loss_sampling"})


@pytest.mark.parametrize("options", [{key: value} for key, value in ON.items()] + [ON])
def test_an_image_is_the_same_in_any_share_of_any_batch_and_after_a_resume(
    small: Small, options: dict[str, Any]
) -> None:
    experiment = small(**options)
    expected = many(experiment)
    for size, step in ((4, 5), (1, 22)):
        whole = sampler(experiment, batch_size=size).draw(step)
        shares = [
            image for k in range(size) for image in sampler(experiment, batch_size=size).draw(step, range(k, k + 1))
        ]
        for first, second, third in zip(whole, shares, expected[size * step :], strict=False):
            assert (first.name, first.seed, first.mirrored) == (third.name, third.seed, third.mirrored)
            assert (first.image == third.image).all()
            assert (first.mask == third.mask).all()
            assert (second.image == third.image).all()
            assert (second.mask == third.mask).all()


@pytest.mark.parametrize("option", ["data.jitter", "data.colour", "data.loss_sampling"])
def test_an_option_leaves_order_crops_flips_and_dropout_as_they_are_without_it(small: Small, option: str) -> None:
    crop = {"data.crop": "72x56"}
    changed = 0
    for with_it, without in zip(many(small(**crop, **{option: ON[option]})), many(small(**crop)), strict=True):
        assert (with_it.name, with_it.seed, with_it.mirrored) == (without.name, without.seed, without.mirrored)
        changed += (with_it.image != without.image).any() or (with_it.mask != without.mask).any()
        if option == "data.colour":
            assert (with_it.mask == without.mask).all()
        if option == "data.loss_sampling":
            assert (with_it.image == without.image).all()
            kept = with_it.mask != VOID
            assert (with_it.mask == without.mask)[kept].all()
    assert changed > 50


def test_a_factor_of_one_changes_nothing(small: Small) -> None:
    for scaled, plain in zip(many(small(**{"data.scale": [1, 1]})), many(small()), strict=True):
        assert (scaled.name, scaled.mirrored) == (plain.name, plain.mirrored)
        assert (scaled.image == plain.image).all()
        assert (scaled.mask == plain.mask).all()


def test_a_translation_repeats_the_edge_of_an_image_and_leaves_a_mask_void() -> None:
    pixels = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert augmentation.translate(pixels, 1, -1).tolist() == [[2, 3, 3], [2, 3, 3]]
    assert augmentation.translate(pixels, 1, -1, VOID).tolist() == [[VOID] * 3, [2, 3, VOID]]
    assert augmentation.translate(pixels, 0, 2, VOID).tolist() == [[VOID, VOID, 1], [VOID, VOID, 4]]
    assert augmentation.translate(pixels, -5, 0, VOID).tolist() == [[VOID] * 3] * 2
    assert augmentation.translate(np.dstack([pixels, pixels]), 1, -1)[..., 1].tolist() == [[2, 3, 3], [2, 3, 3]]


def test_jitter_moves_by_every_distance_up_to_its_own_in_each_direction(small: Small) -> None:
    drawn = sampler(small(**{"data.jitter": 2, "data.flip": False}))
    borders = set()
    for step in range(100):
        for image in drawn.draw(step):
            void = image.mask[..., 0] == VOID
            rows, columns = void.all(1), void.all(0)
            borders.add((int(rows[:5].sum() - rows[-5:].sum()), int(columns[:5].sum() - columns[-5:].sum())))
    assert borders == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


@pytest.mark.parametrize("size", [(7, 5), (24, 17), (48, 33), (12, 9)])
def test_a_mask_is_resized_as_by_pillow(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).integers(0, 256, (17, 24), np.uint8)
    expected = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    assert (augmentation.nearest(mask, *size) == expected).all()


def test_an_image_of_five_channels_is_resized_as_each_of_them() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 5)).astype(np.uint8)
    for width, height in ((20, 15), (61, 50)):
        resized = shrink(image, width, height).astype(int)
        for channel in range(5):
            alone = shrink(image[..., channel, None].repeat(3, -1), width, height)[..., 0]
            assert np.abs(resized[..., channel] - alone).max() <= 1


@pytest.mark.parametrize("seed", range(8))
def test_colours_change_as_torchvisions_colour_jitter_changes_them(seed: int) -> None:
    image = np.random.default_rng(99).integers(0, 256, (9, 11, 5)).astype(np.uint8)
    ours = augmentation.recolour(image, 0.4, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    factors = rng.uniform(0.6, 1.4, 3)
    theirs = torch.from_numpy(image[..., :3].astype(np.float32) / 255).permute(2, 0, 1)
    for change in rng.permutation(3):
        adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)[change]
        theirs = adjust(theirs, factors[change])
    assert np.abs(ours[..., :3] - 255 * theirs.permute(1, 2, 0).numpy()).max() <= 0.51
    assert (ours[..., 3:] == image[..., 3:]).all()


def test_a_net_that_sees_no_rgb_has_no_colours_to_change(small: Small) -> None:
    colour, plain = ({"data.inputs": "depth+hha", "data.colour": colour} for colour in (0.9, 0.0))
    assert all((a.image == b.image).all() for a, b in zip(many(small(**colour)), many(small(**plain)), strict=True))


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.9])
def test_cells_are_whole_independent_and_kept_with_their_probability(keep: float) -> None:
    ignored = augmentation.ignored_cells((32 * 50 - 3, 32 * 40 - 31), keep, np.random.default_rng(0))
    assert ignored.shape == (1597, 1249)
    cells = ignored[::32, ::32]
    assert (ignored == cells.repeat(32, 0).repeat(32, 1)[:1597, :1249]).all()
    spread = (keep * (1 - keep) / cells.size) ** 0.5
    assert abs(1 - cells.mean() - keep) < 4 * spread
    neighbours = (cells[:, 1:] & cells[:, :-1]).mean(), (cells[1:] & cells[:-1]).mean()
    assert all(abs(both - (1 - keep) ** 2) < 4 / cells.size**0.5 for both in neighbours)


def test_cells_lie_where_a_coarse_score_is_the_nearest() -> None:
    """Scores of one class per cell, upsampled: the largest is that of the cell. With pad 100, 3 pixels before it."""
    one_hot = torch.eye(20).view(1, 20, 4, 5)
    expected = torch.arange(20).view(4, 5).repeat_interleave(32, 0).repeat_interleave(32, 1)
    net = FCN(20, 32, "slim", pad="same")
    assert torch.equal(net.upscore(one_hot, net.crops[32], (128, 160)).argmax(1)[0], expected)
    wide = FCN(20, 32, "slim", pad=100)
    upsampled = wide.upscore(one_hot, wide.crops[32], (125, 157)).argmax(1)[0]
    inside = slice(0, 124), slice(0, 156)
    moved = expected[3:, 3:][inside]
    differs = (upsampled[inside] != moved).float().mean()
    assert differs < 0.07  # half a pixel more


def test_cells_are_those_of_the_image_that_the_net_sees(small: Small) -> None:
    """96 pixels are three cells; of 80, cut from the left or mirrored, the last one is half."""
    experiment = small(**{"data.crop": "80x80", "data.loss_sampling": 0.5})
    mirrored = 0
    for one in many(experiment):
        seen = (one.mask[:, ::-1] if one.mirrored else one.mask)[..., 0] == VOID
        cells = seen[::32, ::32]
        assert (seen == cells.repeat(32, 0).repeat(32, 1)[:80, :80]).all()
        mirrored += one.mirrored
    assert 15 < mirrored < 45
