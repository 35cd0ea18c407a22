"""Colours that can be told apart, also by those who see no difference between red and green.

source   OKLab: Björn Ottosson, 2020. Deuteranopia and protanopia: Machado, Oliveira and Fernandes, IEEE TVCG 2009.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]  # red, green, blue, 0..255
Array = npt.NDArray[np.float64]

# Blue, orange, green, pink, sky blue, vermilion and yellow of Okabe and Ito.
FIRST = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))
WHITE, BLACK = (255, 255, 255), (0, 0, 0)  # void and paper; what hides in a dark picture
CLOSE = 0.12  # in OKLab, below which two colours in one picture are taken for each other
VIVID = 0.17  # chroma in OKLab of what marks pixels
LIGHTNESS = (0.38, 0.92)  # in OKLab: neither nearly black nor nearly white
# Linear RGB as it is, and as it looks without one kind of cones.
VISIONS = (
    np.eye(3),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
)
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(colours: Sequence[Colour] | npt.NDArray[np.integer]) -> Array:
    """(visions, N, 3): lightness and two opponent colours of each, as each kind of eye sees them."""
    values = np.asarray(colours, np.float64).reshape(-1, 3) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.stack([(linear @ vision.T).clip(0, 1) for vision in VISIONS])
    lab: Array = np.cbrt(seen @ TO_CONES.T) @ TO_LAB.T
    return lab


def distances(one: Array, other: Array) -> Array:
    """(N, M) between colours as `oklab` gives them: what an ordinary eye sees, or twice what another does if less."""
    apart = np.linalg.norm(one[:, :, None] - other[:, None], axis=-1)
    found: Array = np.minimum(apart[0], 2 * apart[1:].min(0))
    return found.round(6)  # the same choice on every machine


@lru_cache(maxsize=8)
def class_colours(count: int) -> tuple[Colour, ...]:
    """So many colours: FIRST, then each as far from white, black and those before it as can be.

    A class keeps its colour when others are added behind it.
    """
    more = farthest([WHITE, BLACK, *FIRST], count - len(FIRST)) if count > len(FIRST) else []
    return (*FIRST, *more)[:count]


def farthest(taken: Iterable[Colour], count: int) -> list[Colour]:
    """`count` colours, each the farthest from those that are taken and those before it."""
    candidates, seen = _candidates()
    nearest = distances(seen, oklab(list(taken))).min(1)
    found = []
    for _ in range(count):
        best = int(nearest.argmax())
        found.append(candidates[best])
        nearest = np.minimum(nearest, distances(seen, seen[:, best : best + 1])[:, 0])
    return found


def marks(preferred: Mapping[str, Colour], taken: Sequence[Colour]) -> dict[str, Colour]:
    """Vivid colours by name: the preferred one, or, if a taken one is close, the most similar that has none close.

    Among so many that every colour has one close, the farthest from all of them.
    """
    candidates, seen = _candidates()
    vivid = np.linalg.norm(seen[0, :, 1:], axis=-1) >= VIVID
    found: dict[str, Colour] = {}
    for name, colour in preferred.items():
        others = [*taken, *found.values()]
        nearest = np.where(vivid, distances(seen, oklab(others)).min(1), 0)
        similar = distances(seen, oklab([colour]))[:, 0]
        if distances(oklab([colour]), oklab(others)).min() >= CLOSE:
            found[name] = colour
        elif (nearest >= CLOSE).any():
            found[name] = candidates[int(np.where(nearest >= CLOSE, similar, np.inf).argmin())]
        else:
            found[name] = candidates[int(nearest.argmax())]
    return found


@lru_cache(maxsize=1)
def _candidates() -> tuple[list[Colour], Array]:
    """Colours of medium lightness on a grid, and how they are seen."""
    steps = np.array([*range(0, 256, 17)])
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    seen = oklab(grid)
    medium = (seen[0, :, 0] > LIGHTNESS[0]) & (seen[0, :, 0] < LIGHTNESS[1])
    return [(int(r), int(g), int(b)) for r, g, b in grid[medium]], seen[:, medium]
