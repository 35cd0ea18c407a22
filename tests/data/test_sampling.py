"""Which images a step sees."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fcn.data.labels import VOID
from fcn.data.sampling import SampledImage, Sampler, class_weights
from fcn.data.split import Split
from fcn.models import FCN
from fcn.params import Params
from fcn.training import steps
from fcn.training.optimizer import Optimizer

Small = Callable[..., Params]


def sampler(packed: Path, experiment: Params, batch_size: int = 2, seed: int = 1, stride: int = 32) -> Sampler:
    return Sampler(Split(packed, "train"), experiment.data, seed=seed, stride=stride, batch_size=batch_size)


def same(a: list[SampledImage], b: list[SampledImage]) -> bool:
    return all(
        (x.name, x.seed, x.mirrored) == (y.name, y.seed, y.mirrored)
        and (x.image == y.image).all()
        and (x.mask == y.mask).all()
        for x, y in zip(a, b, strict=True)
    )


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own(packed: Path, small: Small) -> None:
    drawn = sampler(packed, small())
    epochs = [[image.name for step in range(3 * e, 3 * e + 3) for image in drawn.draw(step)] for e in range(3)]
    assert all(set(Counter(epoch).values()) == {1} and len(epoch) == 6 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_drawing_with_replacement_repeats_images(packed: Path, small: Small) -> None:
    drawn = sampler(packed, small(**{"data.sampling": "replacement"}))
    names = Counter(image.name for step in range(300) for image in drawn.draw(step))
    assert set(names) == {f"train_{i:04d}" for i in range(6)}
    assert min(names.values()) > 60
    first = [image.name for step in range(3) for image in drawn.draw(step)]
    assert len(set(first)) < 6


def test_a_step_is_the_same_whether_or_not_those_before_it_were_drawn(packed: Path, small: Small) -> None:
    experiment = small(**{"data.crop": "16x24"})
    one, other = sampler(packed, experiment), sampler(packed, experiment)
    for step in range(7):
        one.draw(step)
    assert same(one.draw(7), other.draw(7))


def test_batch_size_does_not_change_what_image_k_looks_like(packed: Path, small: Small) -> None:
    single, pairs = sampler(packed, small(), 1), sampler(packed, small(), 2)
    assert same([*single.draw(4), *single.draw(5)], pairs.draw(2))


@pytest.mark.parametrize("change", [{"seed": 2}, {"stride": 16}])
def test_seed_and_rung_have_draws_of_their_own(packed: Path, small: Small, change: dict[str, int]) -> None:
    one, other = sampler(packed, small()), sampler(packed, small(), **change)
    assert not same([i for s in range(3) for i in one.draw(s)], [i for s in range(3) for i in other.draw(s)])


def test_image_and_mask_are_mirrored_together_half_of_the_time(packed: Path, small: Small) -> None:
    split, drawn = Split(packed, "train"), sampler(packed, small())
    mirrored = 0
    for step in range(100):
        for image in drawn.draw(step):
            i = int(image.name[-4:])
            mirrored += image.mirrored
            assert (image.image == split.image(i)).all()
            assert (image.mask == split.masks(i)).all()
    assert 70 < mirrored < 130


def test_what_is_mirrored_teaches_what_its_mirror_image_teaches(small: Small) -> None:
    """An image, and the same one mirrored by hand: the losses are alike, and so are all gradients."""
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (24, 40, 3), np.uint8), rng.integers(0, 8, (24, 40), np.uint8)
    other = SampledImage("other", image[::-1].copy(), mask[::-1].copy(), 2)
    found = []
    for one in (
        SampledImage("one", image, mask, 1, True),
        SampledImage("one", image[:, ::-1].copy(), mask[:, ::-1].copy(), 1),
    ):
        torch.manual_seed(0)
        net = FCN(8, 8, "slim", pad="same").to(memory_format=torch.channels_last)
        optimizer = Optimizer(net, small())
        loss = steps.backward(net, optimizer, [other, one], "mean", 1, None)
        found.append([loss, *(gradient for _, gradient in optimizer.gradients())])
    assert all(torch.equal(ours, expected) for ours, expected in zip(*found, strict=True))


def test_a_crop_larger_than_the_image_is_continued_as_void(packed: Path, small: Small) -> None:
    drawn = sampler(packed, small(**{"data.crop": "40x16", "data.flip": False})).draw(0)
    assert {(i.image.shape, i.mask.shape) for i in drawn} == {((16, 40, 3), (16, 40, 1))}
    assert (drawn[0].mask[:, 32:] == VOID).all()
    assert (drawn[0].image[:, 32:] == drawn[0].image[:, 31:32]).all()


class Counts(Split):
    """Two images: class 0 has 6 of 8 pixels in one, class 1 the other 2 and all 4 of the second; class 2 none."""

    def __init__(self, packed: Path) -> None:
        super().__init__(packed, "train")
        self.labels = type(self.labels)(("a", "b", "c"), self.labels.palette[:3])

    def pixels(self) -> np.ndarray:
        return np.array([[6, 2, 0], [0, 4, 0]])


def test_class_weights_are_those_worked_by_hand(packed: Path) -> None:
    split = Counts(packed)
    # frequencies 6/8 and 6/12, their median 5/8
    assert class_weights(split, 1.0).tolist() == pytest.approx([0.625 / 0.75, 0.625 / 0.5, 0])
    assert class_weights(split, 0.5).tolist() == pytest.approx([(0.625 / 0.75) ** 0.5, (0.625 / 0.5) ** 0.5, 0])
    assert class_weights(split, None) is None
    assert class_weights(split, [1.0, 2.0, 3.0]).tolist() == [1, 2, 3]
