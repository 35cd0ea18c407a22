"""HHA against geometry worked by hand. The camera has a focal length of 400 pixels; its axis meets row 120."""

import numpy as np
import numpy.typing as npt
import pytest

from fcn.datasets.hha import Camera, gravity_direction, hha, normals, rays

CAMERA = Camera(400, 400, 160, 120)
SHAPE = (241, 321)
FLOOR, WALL, CEILING = 38, 128, 218  # codes of 0, 90 and 180 degrees
Float = npt.NDArray[np.float64]


def plane(normal: tuple[float, float, float], distance: float, shape: tuple[int, int] = SHAPE) -> Float:
    """(H, W), depth in metres of the points with normal · point = distance; inf where it is not in front."""
    x, y = rays(shape, CAMERA)
    along = normal[0] * x + normal[1] * y + normal[2]
    return np.where(along > 0, distance / np.where(along > 0, along, 1), np.inf)


def room(pitch: float) -> Float:
    """A floor 1.5 m below a camera that looks down by `pitch` degrees, and a wall 15 m away."""
    angle = np.radians(pitch)
    floor = plane((0, np.cos(angle), np.sin(angle)), 1.5)
    wall = plane((0, -np.sin(angle), np.cos(angle)), 15)
    return np.minimum(floor, wall)


def test_a_floor_has_height_zero_and_angle_zero() -> None:
    code = hha(plane((0, 1, 0), 1.5), CAMERA)
    assert (code[121:, :, 1] == 0).all()
    assert (code[121:, :, 2] == FLOOR).all()
    # 120 rows below the axis y/z is 0.3: 1.5 m / 0.3 = 5 m, and 31000 / 500 cm = 62.
    assert (code[240, :, 0] == 62).all()
    assert (code[200, :, 0] == 41).all()  # 7.5 m: 41.3
    assert (code[132, :, 0] == 6).all()  # 50 m: 6.2
    assert (code[:121] == 0).all()  # the horizon and above


def test_a_wall_has_ninety_degrees_and_heights_above_a_ground_taken_to_be_130_cm_below() -> None:
    code = hha(plane((0, 0, 1), 2), CAMERA)
    assert (code[..., 0] == 155).all()  # 31000 / 200 cm
    assert (code[..., 2] == WALL).all()
    assert (code[240, :, 1] == 70).all()  # 120 pixels below the axis at 2 m: 60 cm below it
    assert (code[120, :, 1] == 130).all()
    assert (code[0, :, 1] == 190).all()


def test_a_ceiling_is_opposite_to_the_floor() -> None:
    code = hha(np.minimum(plane((0, 1, 0), 1.5), plane((0, -1, 0), 1)), CAMERA)
    assert (code[124:, :, 2] == FLOOR).all()
    assert (code[:117, :, 2] == CEILING).all()
    assert (code[:80, :, 1] == 250).all()  # cm, up to 10 m away


def test_a_disparity_beyond_the_code_is_clipped() -> None:
    assert (hha(plane((0, 0, 1), 0.5), CAMERA)[..., 0] == 255).all()


def test_a_ramp_of_thirty_degrees_on_a_floor_has_that_angle() -> None:
    """It rises from the floor's line 6 m away, in row 220: y = 1.5 - tan 30° (z - 6)."""
    depth, rise = room(0), np.tan(np.radians(30))
    ramp = plane((0, 1, rise), 1.5 + 6 * rise)
    depth[:, 220:300] = np.minimum(depth, ramp)[:, 220:300]
    code = hha(depth, CAMERA)
    assert (code[160:210, 224:296, 2] == FLOOR + 30).all()
    assert (code[225:, 224:296, 2] == FLOOR).all()
    assert (code[170:, :210, 2] == FLOOR).all()
    # In row 160 y/z is 0.1: z = (1.5 + 6 tan 30°) / (0.1 + tan 30°) = 7.329 m, and the height 1.5 - 0.733 = 0.767 m.
    assert (code[160, 224:296, 0] == 42).all()
    assert np.abs(code[160, 224:296, 1].astype(int) - 77).max() <= 5


@pytest.mark.parametrize("pitch", [0, 5, 10, 15])
def test_gravity_is_found_if_the_camera_is_pitched(pitch: float) -> None:
    depth = room(pitch)
    gravity = gravity_direction(normals(depth, CAMERA, 10).reshape(-1, 3))
    true = np.array([0, np.cos(np.radians(pitch)), np.sin(np.radians(pitch))])
    assert np.degrees(np.arccos(gravity @ true)) < 1
    code = hha(depth, CAMERA)
    assert np.abs(code[:2, :, 2].astype(int) - WALL).max() <= 1
    assert np.abs(code[-2:, :, 2].astype(int) - FLOOR).max() <= 1
    assert code[-1, :, 1].max() <= 10  # cm


def test_gravity_is_found_if_the_camera_is_rolled() -> None:
    angle = np.radians(8)
    across, down = (np.cos(angle), -np.sin(angle), 0.0), (np.sin(angle), np.cos(angle), 0.0)
    depth = np.minimum(np.minimum(plane(down, 1.5), plane(across, 2)), plane((0, 0, 1), 6))
    gravity = gravity_direction(normals(depth, CAMERA, 10).reshape(-1, 3))
    assert np.degrees(np.arccos(gravity @ np.array(down))) < 1


def test_normals_are_least_squares_in_disparity() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 3, (20, 30))
    depth[rng.random(depth.shape) < 0.2] = 0
    found = normals(depth, CAMERA, 2)
    x, y = rays(depth.shape, CAMERA)
    rows = np.stack([x + 0 * y, y + 0 * x, np.ones(depth.shape)], axis=2)
    for i, j in ((0, 0), (10, 15), (19, 3), (7, 29)):
        window = np.s_[max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3]
        known = depth[window] > 0
        fit, *_ = np.linalg.lstsq(rows[window][known], 1 / depth[window][known])
        expected = fit / np.linalg.norm(fit)
        expected *= np.sign(expected @ rows[i, j])
        assert found[i, j] == pytest.approx(expected, abs=1e-6)


def test_unknown_depth_is_coded_as_zero_and_spoils_nothing_around_it() -> None:
    depth = plane((0, 1, 0), 1.5)
    whole = hha(depth, CAMERA)
    depth[160:184, 80:160] = 0
    depth[200, 50] = np.nan
    holed = hha(depth, CAMERA)
    assert (holed[160:184, 80:160] == 0).all()
    assert (holed[200, 50] == 0).all()
    known = np.isfinite(depth) & (depth > 0)
    assert (holed[known] == whole[known]).all()


def test_without_any_known_depth_the_code_is_zero() -> None:
    assert (hha(np.zeros(SHAPE), CAMERA) == 0).all()


def test_a_pixel_without_known_neighbours_has_no_angle() -> None:
    depth = np.zeros(SHAPE)
    depth[120, 160] = 2
    assert hha(depth, CAMERA)[120, 160].tolist() == [155, 130, 0]
