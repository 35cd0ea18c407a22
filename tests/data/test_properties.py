"""What holds for every input, tried on inputs that hypothesis draws: the same ones at every run."""

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from conftest import ROOT, changed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from makers import packed_split
from PIL import Image

from fcn import params
from fcn.data import scale
from fcn.data.labels import VOID
from fcn.data.sampling import Sampler
from fcn.data.split import Split
from fcn.datasets import resizing
from fcn.datasets.label_maps import SCENES
from fcn.datasets.sources import Sample
from fcn.metrics import scores
from fcn.params import Params, Size
from fcn.runtime.errors import UserError

# A fixture that no example changes may be shared by all of them.
SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def steady(examples: int) -> Callable[..., Any]:
    return settings(derandomize=True, database=None, deadline=None, max_examples=examples, suppress_health_check=SHARED)


TEXT = (ROOT / "recipes" / "scenes.yaml").read_text()
CLASSES = st.sampled_from([*range(8), VOID])
SIDES = st.integers(1, 20)


# Metrics


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Truth and prediction of some pixels, and the number of classes."""
    count = draw(st.integers(1, 5))
    pixels = draw(st.lists(st.tuples(st.sampled_from([*range(count), VOID]), st.integers(0, count - 1)), min_size=1))
    return [t for t, _ in pixels], [p for _, p in pixels], count


@given(pairs())
@steady(100)
def test_the_scores_are_those_of_a_loop_over_pixels_and_classes(case: tuple[list[int], list[int], int]) -> None:
    truth, prediction, count = case
    seen = [(t, p) for t, p in zip(truth, prediction, strict=True) if t != VOID]
    found = scores.confusion(torch.tensor([truth], dtype=torch.uint8), torch.tensor([prediction]), count)
    assert found.tolist() == [[seen.count((t, p)) for p in range(count)] for t in range(count)]
    if not seen:
        with pytest.raises(UserError, match="void"):
            scores.scores(found)
        return
    ious, accuracies, weighted = [], [], Fraction(0)
    for c in range(count):
        right = sum(t == p == c for t, p in seen)
        of_truth, either = sum(t == c for t, _ in seen), sum(c in (t, p) for t, p in seen)
        if of_truth:
            ious.append(Fraction(right, either))
            weighted += of_truth * ious[-1]
            accuracies.append(Fraction(right, of_truth))
    expected = {
        "pixel_accuracy": Fraction(sum(t == p for t, p in seen), len(seen)),
        "mean_accuracy": sum(accuracies) / len(accuracies),
        "mean_iu": sum(ious) / len(ious),
        "frequency_weighted_iu": weighted / len(seen),
    }
    result = scores.scores(found).asdict()
    assert result == pytest.approx({name: float(value) for name, value in expected.items()}, abs=1e-12)


# Packing and resizing


def masks(shape: Any) -> Any:
    return arrays.arrays(np.uint8, shape, elements=CLASSES)


@st.composite
def scene(draw: st.DrawFn) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    height, width = draw(SIDES), draw(SIDES)
    return draw(arrays.arrays(np.uint8, (height, width, 3))), draw(masks((height, width)))


def written(scenes: list[Any], folder: Path) -> list[Sample]:
    found = []
    for i, (image, mask) in enumerate(scenes):
        paths = folder / f"i{i}.png", folder / f"m{i}.png"
        Image.fromarray(image).save(paths[0])
        SCENES.picture(mask).save(paths[1])
        found.append(Sample(f"s{i}", *paths))
    return found


@given(st.lists(scene(), min_size=1, max_size=8))
@steady(3)  # each starts processes
def test_what_is_packed_at_native_size_comes_out_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, scenes: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    split = packed_split(written(scenes, folder), SCENES, folder)
    assert len(split) == len(scenes)
    assert split.labels == SCENES
    for i, (image, mask) in enumerate(scenes):
        assert (split.name(i), split.size(i)) == (f"s{i}", mask.shape)
        assert (split.image(i) == image).all()
        assert (split.mask(i) == mask).all()
        assert split.pixels()[i].tolist() == [int((mask == c).sum()) for c in range(8)]


@given(scene(), st.one_of(st.just("native"), st.integers(1, 30), st.builds(Size, SIDES, SIDES)), st.booleans())
@steady(60)
def test_a_resized_mask_has_the_images_size_and_no_class_that_it_did_not_have(
    tmp_path: Path, case: Any, size: int | str, native_mask: bool
) -> None:
    image, mask = case
    (sample,) = written([case], tmp_path)
    packed = resizing.resize(sample, SCENES, size, native_mask)
    assert not isinstance(packed, str)
    width, height = scale.target_size((image.shape[1], image.shape[0]), size)
    assert packed.image.shape == (height, width, 3)
    assert packed.mask.shape == (mask.shape if native_mask else (height, width))
    assert set(np.unique(packed.mask)) <= set(np.unique(mask))
    if native_mask or size == "native":
        assert (packed.mask == mask).all()


@given(SIDES, SIDES, st.integers(1, 100))
@steady(100)
def test_a_shorter_side_is_as_asked_and_the_longer_one_in_proportion(width: int, height: int, wanted: int) -> None:
    found = scale.target_size((width, height), wanted)
    assert min(found) == wanted
    assert max(found) == pytest.approx(max(width, height) * wanted / min(width, height), abs=0.5)


# Params

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.binary(max_size=4)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def keys(section: dict[str, Any], prefix: str = "") -> list[str]:
    return [
        path
        for key, value in section.items()
        for path in [prefix + key, *(keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [])]
    ]


def refused_in_a_line_or_valid(text: str) -> Params | None:
    refused = ""
    try:
        found = params.check(params.parse(text, "params.yaml"), "params.yaml")
    except UserError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("params.yaml: ")
        assert len(refused.splitlines()) == 1, refused
        return None
    assert params.check(found.model_dump(), "again") == found
    assert math.isfinite(found.lr)
    return found


@given(st.sampled_from(keys(yaml.safe_load(TEXT))), ANYTHING)
@steady(200)
def test_any_value_at_any_key_is_refused_in_one_line_or_valid(key: str, value: Any) -> None:
    refused_in_a_line_or_valid(yaml.safe_dump(changed(TEXT, {key: value}), allow_unicode=True))


@given(st.one_of(st.text(), ANYTHING.map(lambda value: str(yaml.safe_dump(value)))))
@steady(200)
def test_any_other_yaml_is_refused_in_one_line(text: str) -> None:
    assert refused_in_a_line_or_valid(text) is None


@given(st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, 6), st.text(max_size=4)), min_size=1, max_size=4))
@steady(200)
def test_a_recipe_with_any_edits_is_refused_in_one_line_or_valid(edits: list[tuple[int, int, str]]) -> None:
    text = TEXT
    for at, removed, added in edits:
        text = text[:at] + added + text[at + removed :]
    refused_in_a_line_or_valid(text)


# Sampler


@given(st.integers(0, 2**32 - 1), st.sampled_from([32, 16, 8]), st.integers(1, 8), st.integers(0, 4))
@steady(60)
def test_every_image_comes_once_an_epoch_whatever_the_batch_size(
    packed: Path, small: Callable[..., Params], seed: int, stride: int, batch_size: int, epoch: int
) -> None:
    sampler = Sampler(Split(packed, "train"), small().data, seed=seed, stride=stride, batch_size=batch_size)
    names = [drawn.name for step in range(6 * epoch // batch_size, 6 * (epoch + 1)) for drawn in sampler.draw(step)]
    first = 6 * epoch % batch_size
    assert Counter(names[first : first + 6]) == Counter(f"train_{i:04d}" for i in range(6))


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(0, 30),
    st.sampled_from(["epochs", "replacement"]),
    st.sampled_from(["none", "16x24", "48x40"]),
)
@steady(40)
def test_a_sampler_begun_at_any_step_draws_what_one_that_never_stopped_draws(
    packed: Path, small: Callable[..., Params], seed: int, batch_size: int, start: int, sampling: str, crop: str
) -> None:
    data = small(**{"data.sampling": sampling, "data.crop": crop}).data
    split = Split(packed, "train")
    whole, begun = (Sampler(split, data, seed=seed, stride=8, batch_size=batch_size) for _ in range(2))
    for step in range(start):
        whole.draw(step)
    for step in range(start, start + 3):
        for one, other in zip(whole.draw(step), begun.draw(step), strict=True):
            assert (one.name, one.seed, one.mirrored) == (other.name, other.seed, other.mirrored)
            assert (one.image == other.image).all()
            assert (one.mask == other.mask).all()
