"""Synthetic street scenes drawn from a seed: the embedded data set.

It is hard in the ways that real data sets are: lighting and weather vary, near objects occlude far ones, and poles,
legs and signs are only a few pixels wide, too thin for predictions at stride 32. As in VOC, a contour one void pixel
wide runs along every border between two objects.
"""

import math
from collections.abc import Mapping
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from fcn.data.labels import VOID
from fcn.datasets.label_maps import SCENES
from fcn.datasets.sources import Sample, check_splits, list_samples
from fcn.io.archive import Archive
from fcn.params import Data
from fcn.runtime import workers
from fcn.runtime.errors import UserError

LABELS = SCENES
SKY, GROUND, ROAD, BUILDING, TREE, CAR, SIGN, PERSON = range(8)
SCALE = 3  # scenes are drawn three times as large and averaged, for antialiasing
Colour = tuple[int, int, int]
Point = tuple[float, float]


def archives(data: Data) -> tuple[Archive, ...]:
    """None: scenes are drawn."""
    return ()


def check(data: Data) -> None:
    """raises UserError if a split is neither train nor val, or would be empty"""
    counts = {"train": data.scenes.train, "val": data.scenes.val}
    check_splits(data, counts)
    for split in (data.splits.train, data.splits.val):
        if not counts[split]:
            raise UserError(f"params.yaml: data.scenes.{split} is 0; a split needs at least one image")


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Draw both splits as PNG files; scene i of a split does not depend on the number of scenes."""
    counts = {"train": data.scenes.train, "val": data.scenes.val}
    width, height = data.scenes.size
    (out / "image").mkdir(parents=True)
    (out / "mask").mkdir()
    check(data)
    for split in sorted({data.splits.train, data.splits.val}):
        names = [f"{split}_{i:04d}" for i in range(counts[split])]
        seeds = [(data.scenes.seed, list(counts).index(split), i) for i in range(counts[split])]
        with workers.pool() as pool:
            list(pool.map(_write, repeat(out), names, seeds, repeat(width), repeat(height), chunksize=16))
        (out / f"{split}.txt").write_text("".join(f"image/{n}.png mask/{n}.png\n" for n in names))


def samples(raw: Path, split: str) -> list[Sample]:
    """The split's samples, in the order of their numbers."""
    return list_samples(raw, split)


def _write(out: Path, name: str, seed: tuple[int, ...], width: int, height: int) -> None:
    image, mask = draw(seed, width, height)
    Image.fromarray(image).save(out / "image" / f"{name}.png")
    LABELS.picture(mask).save(out / "mask" / f"{name}.png")


def draw(seed: tuple[int, ...], width: int, height: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw one scene of `width` × `height` pixels.

    returns  image (H, W, 3) uint8 RGB, and mask (H, W) uint8, classes 0..7 or VOID
    """
    scene = _Scene(np.random.default_rng(seed), width * SCALE, height * SCALE)
    return scene.finish()


class _Scene:
    """A canvas for the image and a second one, drawn with the same shapes, that holds object numbers."""

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self.rng, self.width, self.height = rng, width, height
        self.image = Image.new("RGB", (width, height))
        self.objects = Image.new("I", (width, height))
        self.ink, self.pencil = ImageDraw.Draw(self.image), ImageDraw.Draw(self.objects)
        self.classes = [SKY]  # class of each object number
        self.horizon = height * rng.uniform(0.32, 0.5)
        self.vanishing = width * rng.uniform(0.3, 0.7)
        self.light = rng.choice(["day", "overcast", "sunset", "night"], p=[0.45, 0.25, 0.2, 0.1])
        self._sky()
        self._ground()
        self._buildings()
        self._objects()

    # Drawing. `begin` starts a new object, which may consist of many shapes.

    def begin(self, kind: int) -> None:
        self.classes.append(kind)

    def polygon(self, points: list[Point], colour: Colour) -> None:
        self.ink.polygon(points, fill=colour)
        self.pencil.polygon(points, fill=len(self.classes) - 1)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        around = (x - rx, y - ry, x + rx, y + ry)
        self.ink.ellipse(around, fill=colour)
        self.pencil.ellipse(around, fill=len(self.classes) - 1)

    def paint(self, points: list[Point], colour: Colour) -> None:
        """Change the image only, not the mask: windows, lane markings, shadows."""
        self.ink.polygon(points, fill=colour)

    def colour(self, base: Colour, spread: int) -> Colour:
        r, g, b = (int(np.clip(c + self.rng.integers(-spread, spread + 1), 0, 255)) for c in base)
        return r, g, b

    # Objects, from far to near.

    def _sky(self) -> None:
        top, bottom = {
            "day": ((80, 140, 220), (190, 215, 240)),
            "overcast": ((150, 155, 165), (205, 208, 212)),
            "sunset": ((90, 80, 140), (250, 170, 110)),
            "night": ((12, 14, 40), (50, 50, 90)),
        }[self.light]
        top, bottom = self.colour(top, 15), self.colour(bottom, 15)
        for y in range(int(self.horizon) + 1):
            part = y / self.horizon
            r, g, b = (int(t + (u - t) * part) for t, u in zip(top, bottom, strict=True))
            self.ink.line([(0, y), (self.width, y)], fill=(r, g, b))
        for _ in range(self.rng.integers(0, 4)):
            x, high = self.rng.uniform(0, self.width), self.rng.uniform(0, self.horizon * 0.7)
            for _ in range(6):
                dx, dy = self.rng.normal(0, self.width * 0.05), self.rng.normal(0, self.height * 0.012)
                r, g, b = (min(255, c + 35) for c in bottom)
                rx = self.width * self.rng.uniform(0.03, 0.08)
                self.ink.ellipse((x + dx - rx, high + dy - rx / 3, x + dx + rx, high + dy + rx / 3), fill=(r, g, b))

    def _ground(self) -> None:
        grass: list[Colour] = [(96, 140, 70), (150, 145, 120), (165, 160, 155), (130, 120, 80)]
        self.begin(GROUND)
        self.box(0, self.horizon, self.width, self.height, self.colour(grass[self.rng.integers(4)], 15))
        for _ in range(60):  # tufts and stones
            x, y = self.rng.uniform(0, self.width), self.rng.uniform(self.horizon, self.height)
            size = 1 + 5 * self._depth(y)
            shade = self.colour(grass[self.rng.integers(4)], 25)
            self.paint([(x - size, y), (x, y - size), (x + size, y)], shade)
        self.near_left = self.width * self.rng.uniform(-0.3, 0.2)
        self.near_right = self.width * self.rng.uniform(0.8, 1.3)
        asphalt = self.colour((92, 92, 98), 18)
        far = self.width * 0.012
        self.begin(ROAD)
        self.polygon(
            [
                (self.vanishing - far, self.horizon),
                (self.vanishing + far, self.horizon),
                (self.near_right, self.height),
                (self.near_left, self.height),
            ],
            asphalt,
        )
        middle = (self.near_left + self.near_right) / 2
        for i in range(9):  # lane markings shrink with distance
            near, away = 0.78**i, 0.78 ** (i + 0.5)
            self.paint(
                [
                    (self._between(middle + s * self.width * 0.012, part), self._row(part))
                    for s, part in ((-1, near), (1, near), (1, away), (-1, away))
                ],
                self.colour((225, 225, 215), 10),
            )

    def _buildings(self) -> None:
        walls: list[Colour] = [
            (170, 120, 95),
            (190, 180, 165),
            (140, 140, 150),
            (205, 190, 140),
            (120, 85, 80),
        ]
        for side in (-1, 1):
            x = self.vanishing + side * self.width * self.rng.uniform(0.05, 0.15)
            while 0 < x < self.width and self.rng.random() < 0.9:
                distance = abs(x - self.vanishing) / self.width
                wide = self.width * self.rng.uniform(0.08, 0.14) * (1 + 2 * distance)
                tall = self.height * self.rng.uniform(0.1, 0.28) * (0.7 + 2 * distance)
                base = self.horizon + self.height * 0.16 * distance
                left, right = (x, x + wide) if side > 0 else (x - wide, x)
                self._building(left, base - tall, right, base, self.colour(walls[self.rng.integers(5)], 20))
                x += side * wide * self.rng.uniform(1.0, 1.5)

    def _building(self, left: float, top: float, right: float, base: float, wall: Colour) -> None:
        self.begin(BUILDING)
        self.box(left, top, right, base, wall)
        if self.rng.random() < 0.4:  # a gable
            self.polygon(
                [(left, top), ((left + right) / 2, top - (right - left) * 0.35), (right, top)],
                self.colour((120, 60, 50), 20),
            )
        lit = (250, 220, 130) if self.light == "night" else (70, 85, 105)
        columns, rows = self.rng.integers(2, 5), self.rng.integers(2, 6)
        for i in range(columns):
            for j in range(rows):
                x = left + (right - left) * (i + 0.3) / columns
                y = top + (base - top) * (j + 0.3) / rows
                dx, dy = (right - left) * 0.4 / columns, (base - top) * 0.4 / rows
                self.paint([(x, y), (x + dx, y), (x + dx, y + dy), (x, y + dy)], self.colour(lit, 20))

    def _objects(self) -> None:
        """Trees, cars, signs and persons, drawn from far to near, so that near ones occlude far ones."""
        makers = [self._tree, self._car, self._sign, self._person]
        count = int(self.rng.integers(7, 15))
        depths = np.sort(self.rng.uniform(0.06, 0.85, count) ** 1.3)
        for depth in depths:
            makers[self.rng.choice(4, p=[0.22, 0.26, 0.26, 0.26])](float(depth))

    def _tree(self, depth: float) -> None:
        x, y, size = self._beside_road(depth), self._row(depth), self._size(depth, 4.5)
        self.begin(TREE)
        self._shadow(x, y, size * 0.3)
        trunk = size * 0.035
        self.box(x - trunk, y - size * 0.5, x + trunk, y, self.colour((95, 70, 45), 12))
        leaf = self.colour([(50, 105, 45), (85, 130, 50), (150, 110, 40)][self.rng.integers(3)], 15)
        if self.rng.random() < 0.3:  # a conifer
            for i in range(3):
                w, top = size * (0.26 - 0.06 * i), y - size * (0.5 + 0.2 * i)
                self.polygon([(x - w, y - size * (0.2 + 0.2 * i)), (x + w, y - size * (0.2 + 0.2 * i)), (x, top)], leaf)
            return
        for _ in range(9):
            angle, far = self.rng.uniform(0, 2 * math.pi), size * self.rng.uniform(0, 0.2)
            radius = size * self.rng.uniform(0.1, 0.16)
            self.ellipse(
                x + far * math.cos(angle),
                y - size * 0.7 + far * math.sin(angle),
                radius,
                radius,
                self.colour(leaf, 14),
            )

    def _car(self, depth: float) -> None:
        x, y, size = self._on_road(depth), self._row(depth), self._size(depth, 1.5)
        paint = self.colour(
            [(190, 30, 30), (30, 60, 160), (225, 225, 225), (40, 40, 45), (215, 170, 40)][self.rng.integers(5)],
            15,
        )
        length = size * (1.25 if self.rng.random() < 0.5 else 2.6)  # from behind, or from the side
        self._shadow(x, y, length * 0.55)
        self.begin(CAR)
        for s in (-1, 1):
            self.ellipse(x + s * length * 0.32, y - size * 0.13, size * 0.17, size * 0.15, (25, 25, 28))
        self.box(x - length / 2, y - size * 0.6, x + length / 2, y - size * 0.14, paint)
        cabin = [(-0.36, 0.6), (-0.24, 1.0), (0.24, 1.0), (0.36, 0.6)]
        self.polygon([(x + a * length, y - b * size) for a, b in cabin], paint)
        glass = [(-0.29, 0.62), (-0.2, 0.93), (0.2, 0.93), (0.29, 0.62)]
        self.paint([(x + a * length, y - b * size) for a, b in glass], self.colour((60, 75, 90), 10))
        lamp = (255, 235, 170) if self.light == "night" else (230, 90, 60)
        for s in (-1, 1):
            at = x + s * length * 0.42
            self.paint(
                [
                    (at - size * 0.07, y - size * 0.45),
                    (at + size * 0.07, y - size * 0.45),
                    (at, y - size * 0.33),
                ],
                lamp,
            )

    def _sign(self, depth: float) -> None:
        x, y, size = self._beside_road(depth), self._row(depth), self._size(depth, 2.6)
        pole = max(size * 0.035, SCALE * 0.8)
        self.begin(SIGN)
        self.box(x - pole, y - size, x + pole, y, self.colour((130, 130, 135), 15))
        plate = self.colour([(200, 30, 40), (30, 80, 180), (240, 200, 30)][self.rng.integers(3)], 12)
        radius, at = size * 0.17, y - size
        kind = self.rng.integers(3)
        if kind == 0:
            self.ellipse(x, at, radius, radius, plate)
            self.ink.ellipse(
                (x - radius * 0.6, at - radius * 0.6, x + radius * 0.6, at + radius * 0.6),
                fill=(240, 240, 240),
            )
        elif kind == 1:
            self.polygon([(x - radius, at + radius), (x + radius, at + radius), (x, at - radius)], plate)
        else:
            self.box(x - radius, at - radius, x + radius, at + radius, plate)

    def _person(self, depth: float) -> None:
        anywhere = self._beside_road if self.rng.random() < 0.7 else self._on_road
        x, y, size = anywhere(depth), self._row(depth), self._size(depth, 1.75)
        shirt, trousers = (self.colour((120, 100, 110), 110) for _ in range(2))
        self._shadow(x, y, size * 0.15)
        self.begin(PERSON)
        step = size * self.rng.uniform(0.05, 0.14)
        leg = max(size * 0.05, SCALE * 0.7)
        for s in (-1, 1):
            self.polygon(
                [
                    (x - leg, y - size * 0.48),
                    (x + leg, y - size * 0.48),
                    (x + s * step + leg, y),
                    (x + s * step - leg, y),
                ],
                trousers,
            )
        self.box(x - size * 0.11, y - size * 0.82, x + size * 0.11, y - size * 0.45, shirt)
        self.ellipse(x, y - size * 0.91, size * 0.08, size * 0.09, self.colour((190, 145, 115), 40))

    # Perspective: depth 0 is the horizon, 1 the lower edge of the image.

    def _depth(self, row: float) -> float:
        return (row - self.horizon) / (self.height - self.horizon)

    def _row(self, depth: float) -> float:
        return self.horizon + depth * (self.height - self.horizon)

    def _between(self, near: float, depth: float) -> float:
        return self.vanishing + (near - self.vanishing) * depth

    def _size(self, depth: float, metres: float) -> float:
        return metres * (0.02 + 0.19 * depth) * self.height * self.rng.uniform(0.85, 1.15)

    def _on_road(self, depth: float) -> float:
        part = self.rng.uniform(0.2, 0.8)
        return self._between(self.near_left + part * (self.near_right - self.near_left), depth)

    def _beside_road(self, depth: float) -> float:
        left, right = self._between(self.near_left, depth), self._between(self.near_right, depth)
        away = self.rng.uniform(0.02, 0.4) * self.width
        return left - away if self.rng.random() < 0.5 else right + away

    def _shadow(self, x: float, y: float, wide: float) -> None:
        if self.light in ("day", "sunset"):
            self.ink.ellipse((x - wide, y - wide * 0.18, x + wide, y + wide * 0.18), fill=(48, 52, 50))

    # From canvases to arrays.

    def finish(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        size = (self.width // SCALE, self.height // SCALE)
        image = self.image.resize(size, Image.Resampling.BOX)
        image = image.filter(ImageFilter.GaussianBlur(self.rng.uniform(0, 0.6)))
        gain = {"day": 1.0, "overcast": 0.88, "sunset": 0.85, "night": 0.5}[self.light]
        tint = self.rng.normal(1, 0.05, 3) * gain * self.rng.uniform(0.85, 1.15)
        noise = self.rng.normal(0, self.rng.uniform(2, 9), (*size[::-1], 3))
        pixels = np.asarray(image, np.float64) * tint + noise
        objects = np.asarray(self.objects)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
        mask = np.array(self.classes, np.uint8)[objects]
        # The contour runs between objects, not classes: two adjacent cars are separated too.
        border = np.zeros(mask.shape, bool)
        border[:, :-1] |= objects[:, :-1] != objects[:, 1:]
        border[:-1] |= objects[:-1] != objects[1:]
        mask[border] = VOID
        return np.clip(pixels.round(), 0, 255).astype(np.uint8), mask
