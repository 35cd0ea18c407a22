"""Folders with annotations, converted to masks; `files` and `expected` were made by the tools themselves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn.data.labels import UInt8
from fcn.inspection import conversion
from fcn.inspection.inspection import Inspection
from fcn.runtime.errors import UserError

FILES = Path(__file__).parent / "files"


def drawn(folder: Path, images: dict[str, tuple[int, int]], texts: dict[str, str]) -> Path:
    """Writes images of random pixels, given with width and height, and texts."""
    rng = np.random.default_rng(0)
    for name, (width, height) in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def converted(folder: Path, pattern: str | None = None) -> tuple[Inspection, dict[str, UInt8]]:
    """The inspection of the folder, and the masks by key."""
    with conversion.inspected(folder, pattern=pattern) as result:
        masks = {pair.key: np.asarray(Image.open(result.folder / pair.mask)) for pair in result.matches.pairs}
        return result, masks


def expected(name: str) -> UInt8:
    return np.asarray(Image.open(FILES.parent / "expected" / f"{name}.png"))


def refusal(folder: Path) -> str:
    """The one line with which the folder is refused."""
    with pytest.raises(UserError) as caught:
        converted(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)
