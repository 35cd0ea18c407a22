"""HHA: depth coded as three channels, horizontal disparity, height above ground and angle with gravity.

Camera coordinates are x right, y down and z forward; depth is z. Normals point away from the camera, so the normal of
a floor is the direction of gravity.

source   Gupta et al., ECCV 2014, "Learning Rich Features from RGB-D Images", sec. 2.1, and its code: saveHHA.m and
         processDepthImage.m of s-gupta/rcnn-depth, computeNormalsSquareSupport.m and getYDir.m of s-gupta/rgbdutils
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

WINDOWS = (3, 10)  # radius in pixels of the windows of normals: for the angle, and for the direction of gravity
DISPARITY = 31000  # code × depth in cm
NEAREST = 100  # cm; smaller depths have the disparity of this one
ANGLE = 128 - 90  # code of 0 degrees; a vertical surface has 128
BELOW, ASSUMED = 90, 130  # cm: if no pixel is that far below the camera, the ground is taken to be `ASSUMED` below it
GRAVITY = ((45, 5), (15, 5))  # degrees, iterations
EQUAL = 1e-6  # of the mean cost per normal: directions that differ less are equally good


class Camera(NamedTuple):
    """Intrinsics of a pinhole camera, in pixels; the centre of the image's first pixel is (0, 0).

    Camera matrices of MATLAB count from 1: subtract 1 from their principal point.
    """

    focal_x: float
    focal_y: float
    centre_x: float
    centre_y: float


def hha(depth: npt.NDArray[np.floating], camera: Camera, windows: tuple[int, int] = WINDOWS) -> npt.NDArray[np.uint8]:
    """Codes depth as HHA.

    depth    (H, W) float, metres; 0 or not finite where it is unknown
    windows  as WINDOWS, which are the source's for images of 560 × 425 pixels
    returns  (H, W, 3) uint8: 31000 / depth in cm; height in cm above the lowest pixel; angle between normal and
             gravity in degrees + 38, so that floors are 38, walls 128 and ceilings 218. Values are rounded and
             clipped to 0..255; all three are 0 where depth is unknown, the angle also where the window of the normal
             has no three known pixels that span a plane
    """
    known = np.isfinite(depth) & (depth > 0)
    z = np.where(known, depth, 0).astype(np.float64) * 100.0  # cumulative sums in fp32 would lose the normals
    gravity = gravity_direction(normals(z, camera, windows[1])[known])
    x, y = rays(z.shape, camera)
    height = -z * (x * gravity[0] + y * gravity[1] + gravity[2])
    lowest = height[known].min(initial=np.inf)
    height -= lowest if lowest <= -BELOW else -ASSUMED
    angle = np.degrees(np.arccos(np.clip(normals(z, camera, windows[0]) @ gravity, -1, 1)))
    coded = np.stack([DISPARITY / np.maximum(z, NEAREST), height, angle + ANGLE], axis=2)
    coded = np.nan_to_num(np.where(known[..., None], coded, 0))
    return np.clip(np.floor(coded + 0.5), 0, 255).astype(np.uint8)


def rays(shape: tuple[int, ...], camera: Camera) -> tuple[Float, Float]:
    """x / z of each column, (1, W), and y / z of each row, (H, 1)."""
    height, width = shape
    x = (np.arange(width, dtype=np.float64) - camera.centre_x) / camera.focal_x
    y = (np.arange(height, dtype=np.float64) - camera.centre_y) / camera.focal_y
    return x[None], y[:, None]


def normals(depth: Float, camera: Camera, radius: int) -> Float:
    """Normals of the planes that fit the known depths of the (2 radius + 1)² window around each pixel.

    A plane n · (x, y, z) = 1 is linear in disparity, n · (x/z, y/z, 1) = 1/z: n is found by least squares.

    depth    (H, W), any unit; 0 where it is unknown
    returns  (H, W, 3), unit vectors that point away from the camera; NaN where no plane is determined
    """
    known = (depth > 0).astype(np.float64)
    disparity = np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)
    column, row = (np.arange(n, dtype=np.float64) for n in depth.shape[::-1])
    i, j = row[:, None], column[None]
    count, sum_i, sum_j, sum_d, sum_ii, sum_ij, sum_jj, sum_id, sum_jd = (
        _window_sums(values, radius)
        for values in (known, known * i, known * j, disparity, known * i * i, known * (i * j), known * j * j,
                       disparity * i, disparity * j)
    )  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_i, mean_j, mean_d = sum_i / count, sum_j / count, sum_d / count
        var_i, var_j = sum_ii / count - mean_i**2, sum_jj / count - mean_j**2
        cov_ij = sum_ij / count - mean_i * mean_j
        cov_id, cov_jd = sum_id / count - mean_i * mean_d, sum_jd / count - mean_j * mean_d
        spread = var_i * var_j - cov_ij**2
        spread[spread < 1e-6] = np.nan  # pixels squared, squared: the known pixels lie on a line
        by_row = (var_j * cov_id - cov_ij * cov_jd) / spread
        by_column = (var_i * cov_jd - cov_ij * cov_id) / spread
        at_centre = mean_d + by_row * (camera.centre_y - mean_i) + by_column * (camera.centre_x - mean_j)
        found = np.stack([by_column * camera.focal_x, by_row * camera.focal_y, at_centre], axis=2)
        found /= np.linalg.norm(found, axis=2, keepdims=True)
    x, y = rays(depth.shape, camera)
    found[found[..., 0] * x + found[..., 1] * y + found[..., 2] < 0] *= -1
    return found


def gravity_direction(found: Float) -> Float:
    """The direction that the normals of floors are parallel to and those of walls perpendicular to.

    Starts from the camera's y axis. Each iteration takes the normals within a threshold of the current direction as
    floors (or ceilings), those within it of the perpendicular plane as walls, and minimizes the sum of squared sines
    to floors and cosines to walls: the eigenvector of the smallest eigenvalue. If several directions are as good, as
    with a single wall, it takes the nearest to the current one; if that is farther away than the threshold, as where no
    floor is seen, it keeps the current one. (In the source, a single wall gives any horizontal direction.)

    found    (N, 3), unit vectors or NaN
    returns  (3,), a unit vector
    """
    found = found[~np.isnan(found).any(axis=1)]
    gravity = np.array([0.0, 1.0, 0.0])
    for degrees, iterations in GRAVITY:
        threshold = np.radians(degrees)
        for _ in range(iterations):
            cosine = abs(found @ gravity)
            floor, wall = found[cosine > np.cos(threshold)], found[cosine < np.sin(threshold)]
            if not len(floor) and not len(wall):
                return gravity
            cost, vectors = np.linalg.eigh(wall.T @ wall - floor.T @ floor)  # in ascending order
            best = vectors[:, cost - cost[0] <= EQUAL * len(found)]
            nearest = best @ (best.T @ gravity)
            if np.linalg.norm(nearest) <= np.cos(threshold):
                return gravity
            gravity = nearest / np.linalg.norm(nearest)
    return gravity


def _window_sums(values: Float, radius: int) -> Float:
    """(H, W) sums over windows of (2 radius + 1)² pixels, cut at the borders of the image."""
    for axis in (0, 1):
        size = values.shape[axis]
        edge = np.zeros_like(values.take([0], axis))
        sums = np.concatenate([edge, values.cumsum(axis)], axis)
        at = np.arange(size)
        values = sums.take(np.minimum(at + radius + 1, size), axis) - sums.take(np.maximum(at - radius, 0), axis)
    return values
