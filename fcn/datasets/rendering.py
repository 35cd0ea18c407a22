"""What cameras record of a synthetic street: colours, depth and infrared, with the true labels.

The image does not depend on the rest: everything else is computed from the drawn objects, and what is random in it
comes from a generator of its own.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from fcn.data.labels import VOID
from fcn.datasets.drawing import SCALE
from fcn.datasets.hha import Camera
from fcn.datasets.street import CAR, DECOY, SKY, Street

UInt8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float64]
Twins = Literal["depth", "infrared"] | None

FOCAL = 0.5  # focal length in image heights: a vertical field of view of 90 degrees
CAMERA_HEIGHT = 3.0  # metres, about what the drawn sizes of objects imply
RANGE = 60.0  # metres; the depth of what is farther is unknown, as with a range sensor
INFRARED = (15, 120, 55, 90, 205, 170, 80, 235, 170)  # mean brightness of each class, sky to decoy
NEARER = 0.5  # distance of a decoy that only depth tells from a car, as a fraction of the car's
COLD = 70  # mean brightness of a decoy that only infrared tells from a car
SECOND_STREAM = 1  # appended to the seed of a scene: the generator of all that is not in the image
HORIZONTAL, VERTICAL, GEOMETRIC_SKY = range(3)


@dataclass(frozen=True)
class Scene:
    """A scene of H × W pixels.

    image      (H, W, 3) uint8, RGB
    mask       (H, W) uint8, classes 0..7 (0..8 with twins) or VOID
    geometric  (H, W) uint8, 0 horizontal, 1 vertical, 2 sky, or VOID where the mask is
    depth      (H, W) float64, metres along the optical axis; 0 for sky and beyond RANGE
    infrared   (H, W) uint8
    """

    image: UInt8
    mask: UInt8
    geometric: UInt8
    depth: Float
    infrared: UInt8


def camera(width: int, height: int) -> Camera:
    """The camera of all scenes of one size; their pitch differs: the horizon is not in the middle row."""
    return Camera(FOCAL * height, FOCAL * height, (width - 1) / 2, (height - 1) / 2)


def render(seed: tuple[int, ...], width: int, height: int, twins: Twins = None) -> Scene:
    """Draws one scene of `width` × `height` pixels; the image depends on seed and size only.

    twins    which input tells cars from decoys: with probability 0.5 each car is a decoy, drawn in the same colours.
             depth: a picture of a car, half as large, that hangs upright at half the distance; infrared: a car with
             a cold engine
    """
    street = Street(np.random.default_rng(seed), width * SCALE, height * SCALE)
    image = _photograph(street)
    objects = street.sampled()
    classes = np.array(street.classes, np.uint8)
    surfaces = np.array([HORIZONTAL if foot is None else VERTICAL for foot in street.feet], np.uint8)
    surfaces[classes == SKY] = GEOMETRIC_SKY
    depth = _depth(street)
    rng = np.random.default_rng((*seed, SECOND_STREAM))
    brightness = rng.normal(np.array(INFRARED)[classes], 10)
    decoys = (rng.random(len(classes)) < 0.5) & (classes == CAR)
    if twins:
        classes[decoys] = DECOY
    if twins == "depth":
        depth[decoys] *= NEARER
    elif twins == "infrared":
        brightness[decoys] += COLD - INFRARED[CAR]
    depth[(depth > RANGE) | (classes == SKY)[:, None]] = 0
    border = _border(objects)
    return Scene(
        image,
        np.where(border, VOID, classes[objects]),
        np.where(border, VOID, surfaces[objects]),
        depth[objects, np.arange(height)[:, None]],
        np.clip(brightness[objects] + rng.normal(0, 5, objects.shape), 0, 255).round().astype(np.uint8),
    )


def _photograph(street: Street) -> UInt8:
    rng, size = street.rng, (street.width // SCALE, street.height // SCALE)
    image = street.image.resize(size, Image.Resampling.BOX)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.6)))
    gain = {"day": 1.0, "overcast": 0.88, "sunset": 0.85, "night": 0.5}[street.light]
    tint = rng.normal(1, 0.05, 3) * gain * rng.uniform(0.85, 1.15)
    noise = rng.normal(0, rng.uniform(2, 9), (*size[::-1], 3))
    pixels = np.asarray(image, np.float64) * tint + noise
    return np.clip(pixels.round(), 0, 255).astype(np.uint8)


def _border(objects: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """The contour runs between objects, not classes: two adjacent cars are separated too."""
    border = np.zeros(objects.shape, bool)
    border[:, :-1] |= objects[:, :-1] != objects[:, 1:]
    border[:-1] |= objects[:-1] != objects[1:]
    return border


def _depth(street: Street) -> Float:
    """Depth of each object in each row of the image.

    The camera looks down by the angle that places the horizon in its row. Depth z at a row with y/z = t follows from
    the ray (x/z, t, 1) z: its drop is z (t cos + sin), and CAMERA_HEIGHT on the ground; its distance along the ground
    is z (cos - t sin), and that of the foot on an upright surface, which faces the camera.

    returns  (objects, H) float64, metres; inf on and above the horizon for objects without a foot
    """
    height = street.height // SCALE
    lens = camera(street.width // SCALE, height)

    def ray(row: Float) -> Float:
        return (row - lens.centre_y) / lens.focal_y

    def sampled_row(canvas_row: float) -> Float:
        return np.array((canvas_row - SCALE // 2) / SCALE)

    pitch = -math.atan(ray(sampled_row(street.horizon)))

    def drop(t: Float) -> Float:
        return t * math.cos(pitch) + math.sin(pitch)

    def forward(t: Float) -> Float:
        return math.cos(pitch) - t * math.sin(pitch)

    rows = ray(np.arange(height, dtype=np.float64))
    ground = np.divide(CAMERA_HEIGHT, drop(rows), out=np.full(height, np.inf), where=drop(rows) > 0)
    depth = np.tile(ground, (len(street.feet), 1))
    for number, foot in enumerate(street.feet):
        if foot is not None:
            t = ray(sampled_row(foot))
            depth[number] = CAMERA_HEIGHT / drop(t) * forward(t) / forward(rows)
    return depth
