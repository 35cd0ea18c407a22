"""The objects of a synthetic street scene, drawn from far to near."""

import math

import numpy as np

from fcn.datasets.drawing import SCALE, Colour, Drawing

SKY, GROUND, ROAD, BUILDING, TREE, CAR, SIGN, PERSON, DECOY = range(9)


class Street(Drawing):
    """A street to its vanishing point, with buildings, trees, cars, signs and persons.

    horizon    row of the canvas, in its pixels
    light      day, overcast, sunset or night
    """

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        super().__init__(rng, width, height, SKY)
        self.horizon = height * rng.uniform(0.32, 0.5)
        self.vanishing = width * rng.uniform(0.3, 0.7)
        self.light = rng.choice(["day", "overcast", "sunset", "night"], p=[0.45, 0.25, 0.2, 0.1])
        self._sky()
        self._ground()
        self._buildings()
        self._objects()

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
        self.begin(BUILDING, base)
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
        self.begin(TREE, y)
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
        self.begin(CAR, y)
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
        self.begin(SIGN, y)
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
        self.begin(PERSON, y)
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
