"""The embedded data set: what is drawn, and what each camera records of it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn.data.labels import VOID
from fcn.datasets import sources, street
from fcn.datasets.hha import hha
from fcn.datasets.rendering import RANGE, camera, render
from fcn.datasets.sources import scenes
from fcn.params import Params
from fcn.runtime.errors import UserError

Small = Callable[..., Params]


def test_a_scene_is_drawn_from_its_seed_alone() -> None:
    scene, again, other = (vars(render((0, 0, number), 64, 48, "depth")) for number in (7, 7, 8))
    assert scene["image"].shape == (48, 64, 3)
    for name, pixels in scene.items():
        assert pixels.shape[:2] == (48, 64)
        assert (pixels == again[name]).all()
        assert (pixels != other[name]).any()


def test_scenes_hold_every_class_and_things_thinner_than_a_stride() -> None:
    masks = np.stack([render((0, 0, i), 128, 128).mask for i in range(20)])
    assert set(np.unique(masks)) == {*range(8), VOID}
    # Runs of sign pixels along a row: most are poles of a few pixels.
    edges = np.diff(np.pad(masks == street.SIGN, ((0, 0), (0, 0), (1, 1))).astype(int), axis=2)
    widths = np.argwhere(edges == -1)[:, 2] - np.argwhere(edges == 1)[:, 2]
    assert np.median(widths) <= 4


def test_the_void_border_of_a_scene_is_one_pixel_wide() -> None:
    for i in range(10):
        mask = render((0, 1, i), 128, 128).mask
        void = mask == VOID
        blocks = void[:-2, :-2] & void[1:-1, :-2] & void[2:, :-2] & void[:-2, 1:-1] & void[1:-1, 1:-1] & void[2:, 1:-1]
        blocks &= void[:-2, 2:] & void[1:-1, 2:] & void[2:, 2:]
        assert blocks.mean() < 0.01  # three lines may meet; a band three pixels wide would be everywhere
        assert 0.01 < void.mean() < 0.2


def test_a_longer_set_of_scenes_begins_with_the_shorter_one(small: Small, tmp_path: Path) -> None:
    for count in (2, 3):
        (tmp_path / str(count)).mkdir()
        scenes.build(small(**{"data.scenes.train": count}).data, {}, tmp_path / str(count))
    names = sorted(p.name for p in (tmp_path / "2" / "image").iterdir())
    assert len(names) == 2 + 4
    for name in names:
        assert (tmp_path / "2" / "image" / name).read_bytes() == (tmp_path / "3" / "image" / name).read_bytes()


def test_scenes_have_no_other_splits(small: Small, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scenes has no split 'holdout'; choose from train, val, test"):
        scenes.build(small(**{"data.splits.val": "holdout"}).data, {}, tmp_path)


@pytest.mark.parametrize("twins", [None, "depth", "infrared"])
def test_image_and_mask_have_the_bits_that_they_had_before_scenes_had_other_inputs(twins: str | None) -> None:
    digest = hashlib.sha256()
    for number in range(40):
        scene = render((0, 1, number), 96, 64, twins)  # type: ignore[arg-type]
        mask = np.where(scene.mask == street.DECOY, street.CAR, scene.mask)
        digest.update(scene.image.tobytes() + mask.astype(np.uint8).tobytes())
    assert digest.hexdigest() == "f6f497235b2341276abd6aa20ad3097046fd0fdee3f1da303746919a26b09ff5"


def test_only_half_of_the_cars_are_decoys_whatever_they_look_like() -> None:
    """A net that sees colours cannot do better than chance: the image is the same, and a coin decides."""
    plain = [render((0, 0, i), 64, 64) for i in range(50)]
    for twins in ("depth", "infrared"):
        scenes_with_decoys = [render((0, 0, i), 64, 64, twins) for i in range(50)]  # type: ignore[arg-type]
        before = np.stack([scene.mask for scene in plain])
        after = np.stack([scene.mask for scene in scenes_with_decoys])
        assert (before[after == street.DECOY] == street.CAR).all()
        assert (before[after != street.DECOY] == after[after != street.DECOY]).all()
        assert 0.4 < (after == street.DECOY).sum() / (before == street.CAR).sum() < 0.6
    assert all((a.image == b.image).all() for a, b in zip(plain, scenes_with_decoys, strict=True))


def test_only_depth_tells_these_decoys_from_cars() -> None:
    for number in range(10):
        plain, twins = render((0, 0, number), 128, 128), render((0, 0, number), 128, 128, "depth")
        decoy = (twins.mask == street.DECOY) & (plain.depth > 0)
        inside = twins.mask != VOID  # the class of a void pixel is not known
        assert twins.depth[decoy] == pytest.approx(plain.depth[decoy] / 2)
        assert (twins.depth == plain.depth)[inside & (twins.mask != street.DECOY)].all()
        assert (twins.infrared == plain.infrared).all()
        assert (twins.geometric == plain.geometric).all()


def test_only_infrared_tells_these_decoys_from_cars() -> None:
    pairs = [(render((0, 0, i), 128, 128), render((0, 0, i), 128, 128, "infrared")) for i in range(30)]
    for plain, twins in pairs:
        assert (twins.depth == plain.depth).all()
        assert (twins.geometric == plain.geometric).all()
        others = (twins.mask != street.DECOY) & (twins.mask != VOID)
        assert (twins.infrared == plain.infrared)[others].all()
    infrared, mask = (np.stack([getattr(twins, name) for _, twins in pairs]) for name in ("infrared", "mask"))
    assert ((infrared < 120) == (mask == street.DECOY))[np.isin(mask, (street.CAR, street.DECOY))].mean() > 0.99


def test_the_depth_of_the_ground_is_that_of_a_plane_through_the_horizon() -> None:
    """Disparity on a plane is linear in the row, and 0 on the horizon, above which no ground is seen."""
    for number in range(10):
        scene = render((0, 0, number), 160, 120)
        disparity = [
            (row, 1 / z[0])
            for row in range(120)
            if (z := scene.depth[row, (scene.mask[row] == street.GROUND) & (scene.depth[row] > 0)]).size
        ]
        slope, offset = np.polyfit(*zip(*disparity, strict=True), 1)
        assert disparity[-1][1] == pytest.approx(slope * disparity[-1][0] + offset, rel=1e-9)
        ground = np.argwhere(np.isin(scene.mask, (street.GROUND, street.ROAD)))
        assert abs(-offset / slope - ground[0, 0]) <= 1
        # 90 degrees from top to bottom: slope = cos(pitch) / (3 m · 60 pixels), tan(pitch) = rows from the middle / 60.
        pitch = np.arctan((59.5 + offset / slope) / 60)
        assert slope == pytest.approx(np.cos(pitch) / 180, rel=1e-9)


def test_what_stands_on_the_ground_has_the_depth_of_its_foot_and_is_upright() -> None:
    angles, heights = [], []
    for number in range(20):
        scene = render((0, 0, number), 256, 256)
        code = hha(scene.depth, camera(256, 256), scenes.HHA_WINDOWS)
        near = (scene.depth > 0) & (scene.depth < 20)
        ground = near & np.isin(scene.mask, (street.GROUND, street.ROAD))
        assert np.median(code[ground, 1]) <= 10  # cm
        assert np.median(code[ground, 2]) == 38
        car = near & (scene.mask == street.CAR)
        angles += list(code[car, 2])
        heights += list(code[car, 1])
    assert abs(np.median(angles) - 128) <= 1
    assert np.percentile(heights, 2) < 30
    assert 130 < np.percentile(heights, 98) < 220  # cm; cars are drawn 1.5 m tall, more or less


def test_depth_is_unknown_in_the_sky_and_beyond_the_range() -> None:
    for number in range(10):
        scene = render((0, 0, number), 128, 128)
        assert (scene.depth[scene.mask == street.SKY] == 0).all()
        assert scene.depth.max() <= RANGE
        assert scene.depth[scene.depth > 0].min() > 1


def test_the_geometric_label_follows_from_the_class() -> None:
    horizontal, vertical, sky = range(3)
    assert scenes.GEOMETRIC.names == ("horizontal", "vertical", "sky")
    expected = np.full(256, vertical)
    expected[[street.SKY, street.GROUND, street.ROAD, VOID]] = sky, horizontal, horizontal, VOID
    for number in range(10):
        scene = render((0, 0, number), 64, 64, "depth")
        assert (scene.geometric == expected[scene.mask]).all()


def test_only_the_inputs_and_labels_of_params_are_written(small: Small, tmp_path: Path) -> None:
    for inputs, labels, expected in (
        ("rgb", "semantic", {"image", "mask"}),
        ("rgb+depth", "semantic+geometric", {"image", "mask", "depth", "geometric"}),
        ("hha", "semantic", {"image", "mask", "hha"}),
        ("infrared", "geometric", {"image", "mask", "infrared", "geometric"}),
    ):
        data = small(**{"data.inputs": inputs, "data.labels": labels}).data
        scenes.build(data, {}, tmp_path / inputs)
        assert {path.name for path in (tmp_path / inputs).iterdir() if path.is_dir()} == expected
        for folder in expected:
            assert len(list((tmp_path / inputs / folder).iterdir())) == 6 + 4


def test_the_files_of_a_scene_are_what_its_cameras_record(small: Small, tmp_path: Path) -> None:
    changes = {"data.inputs": "rgb+depth+hha+infrared", "data.labels": "semantic+geometric"}
    data = small(**changes, **{"data.scenes.twins": "depth"}).data
    scenes.build(data, {}, tmp_path)
    scene = render((0, 1, 2), 32, 32, "depth")
    files = {path.parent.name: Image.open(path) for path in tmp_path.glob("*/val_0002.png")}
    assert {name: file.mode for name, file in files.items()} == {
        "image": "RGB", "mask": "P", "depth": "I;16", "hha": "RGB", "infrared": "L", "geometric": "P"
    }  # fmt: skip
    pixels = {name: np.asarray(file) for name, file in files.items()}
    assert (pixels["image"] == scene.image).all()
    assert (pixels["mask"] == scene.mask).all()
    assert (pixels["geometric"] == scene.geometric).all()
    assert (pixels["infrared"] == scene.infrared).all()
    assert pixels["depth"] == pytest.approx(scene.depth * 1000, abs=0.5)
    assert (pixels["hha"] == hha(pixels["depth"] / 1000, camera(32, 32), (1, 3))).all()


def test_scenes_with_twins_have_one_more_class(small: Small) -> None:
    plain, twins = (sources.labels(small(**{"data.scenes.twins": twins}).data) for twins in ("none", "infrared"))
    assert twins.names == (*plain.names, "decoy")
    assert twins.problem() == ""
