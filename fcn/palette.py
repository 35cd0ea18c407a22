"""Class colours that remain distinguishable under red-green colour blindness.

source   OKLab: Björn Ottosson, 2020. Deuteranopia and protanopia: Machado, Oliveira and Fernandes, IEEE TVCG 2009.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]  # red, green, blue, 0..255
Array = npt.NDArray[np.float64]

# Okabe and Ito: blue, orange, green, pink, sky blue, vermilion, yellow.
FIRST = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))
WHITE, BLACK = (255, 255, 255), (0, 0, 0)  # white is void and the page background; black is hard to see in dark images
CLOSE = 0.12  # OKLab distance below which two colours are easily confused
VIVID = 0.17  # minimum OKLab chroma of a colour that marks pixels
LIGHTNESS = (0.38, 0.92)  # allowed range in OKLab; excludes near-black and near-white
# Linear RGB transforms: normal vision, and simulated deuteranopia, simulated protanopia.
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
    """(visions, N, 3) OKLab coordinates of each colour, for each kind of vision in VISIONS."""
    values = np.asarray(colours, np.float64).reshape(-1, 3) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    perceived = np.stack([(linear @ vision.T).clip(0, 1) for vision in VISIONS])
    lab: Array = np.cbrt(perceived @ TO_CONES.T) @ TO_LAB.T
    return lab


def distances(one: Array, other: Array) -> Array:
    """(N, M) distances between colours in the coordinates of `oklab`.

    The minimum of the distance in normal vision and twice the smallest simulated one.
    """
    by_vision = np.linalg.norm(one[:, :, None] - other[:, None], axis=-1)
    combined: Array = np.minimum(by_vision[0], 2 * by_vision[1:].min(0))
    return combined.round(6)  # rounding makes argmax pick the same colour on every machine


@lru_cache(maxsize=8)
def class_colours(count: int) -> tuple[Colour, ...]:
    """`count` colours: FIRST, then each as far as possible from white, black and all previous colours.

    A class keeps its colour when classes are appended.
    """
    more = farthest([WHITE, BLACK, *FIRST], count - len(FIRST)) if count > len(FIRST) else []
    return (*FIRST, *more)[:count]


def farthest(taken: Iterable[Colour], count: int) -> list[Colour]:
    """`count` colours, each the candidate farthest from `taken` and from the colours chosen before it."""
    candidates, lab = _candidates()
    nearest = distances(lab, oklab(list(taken))).min(1)
    chosen = []
    for _ in range(count):
        best = int(nearest.argmax())
        chosen.append(candidates[best])
        nearest = np.minimum(nearest, distances(lab, lab[:, best : best + 1])[:, 0])
    return chosen


def marks(preferred: Mapping[str, Colour], taken: Sequence[Colour]) -> dict[str, Colour]:
    """Vivid colours by name, each clearly different from `taken` and from each other.

    A preferred colour is used unless another colour is closer than CLOSE; then the most similar vivid candidate
    that is far enough from all others is used, or the farthest one if none is.
    """
    candidates, lab = _candidates()
    vivid = np.linalg.norm(lab[0, :, 1:], axis=-1) >= VIVID
    chosen: dict[str, Colour] = {}
    for name, colour in preferred.items():
        others = [*taken, *chosen.values()]
        nearest = np.where(vivid, distances(lab, oklab(others)).min(1), 0)
        similar = distances(lab, oklab([colour]))[:, 0]
        if distances(oklab([colour]), oklab(others)).min() >= CLOSE:
            chosen[name] = colour
        elif (nearest >= CLOSE).any():
            chosen[name] = candidates[int(np.where(nearest >= CLOSE, similar, np.inf).argmin())]
        else:
            chosen[name] = candidates[int(nearest.argmax())]
    return chosen


@lru_cache(maxsize=1)
def _candidates() -> tuple[list[Colour], Array]:
    """RGB grid colours within LIGHTNESS, and their `oklab` coordinates."""
    steps = np.array([*range(0, 256, 17)])
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lab = oklab(grid)
    medium = (lab[0, :, 0] > LIGHTNESS[0]) & (lab[0, :, 0] < LIGHTNESS[1])
    return [(int(r), int(g), int(b)) for r, g, b in grid[medium]], lab[:, medium]
