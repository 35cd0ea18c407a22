"""An image and the objects in it, drawn with the same shapes."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SCALE = 3  # scenes are drawn three times as large and averaged, for antialiasing
Colour = tuple[int, int, int]
Point = tuple[float, float]


class Drawing:
    """A canvas for the image and a second one, drawn with the same shapes, that contains object numbers.

    classes  the class of each object number
    feet     the row of the canvas on which each object stands; None for the first object, which is the background,
             and for objects that lie on the ground
    """

    def __init__(self, rng: np.random.Generator, width: int, height: int, background: int) -> None:
        self.rng, self.width, self.height = rng, width, height
        self.image = Image.new("RGB", (width, height))
        self.objects = Image.new("I", (width, height))
        self.ink, self.pencil = ImageDraw.Draw(self.image), ImageDraw.Draw(self.objects)
        self.classes = [background]
        self.feet: list[float | None] = [None]

    def begin(self, kind: int, foot: float | None = None) -> None:
        """Starts a new object, which may consist of many shapes."""
        self.classes.append(kind)
        self.feet.append(foot)

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

    def sampled(self) -> npt.NDArray[np.int32]:
        """(H, W) int32, the object number at the centre of each pixel of the image."""
        return np.asarray(self.objects)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
