"""Folders of one's own: images of 6×4 and their masks, and the section of params that describes one."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fcn import params
from fcn.inspection import inspection, summary

SIZE = (6, 4)
COLOURS = np.array([(0, 0, 0), (200, 30, 30), (30, 30, 200), (224, 224, 192)], np.uint8)
# Four images, and masks with two classes and 255.
PLAIN = {f"images/{i}.jpg": "image" for i in range(4)} | {f"masks/{i}.png": [0, 1, 255] for i in range(4)}


def write(path: Path, pixels: Any, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **how)


def make(folder: Path, files: dict[str, Any]) -> Path:
    """Writes {"images/a.jpg": "image", "masks/a.png": [codes…], "a.txt": "text"}; a mask's rows repeat its codes."""
    rng = np.random.default_rng(0)
    for name, content in files.items():
        if isinstance(content, str) and content == "image":
            write(folder / name, rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        elif isinstance(content, str):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")
        else:
            row = np.resize(np.array(content, content.dtype if isinstance(content, np.ndarray) else np.uint8), SIZE)
            write(folder / name, row)
    return folder


def coloured(folder: Path, name: str, numbers: list[int]) -> None:
    write(folder / name, COLOURS[np.resize(numbers, SIZE)])


def own(**values: Any) -> params.Folder:
    plain = {"name": "mine", "images": "images/*", "masks": "masks/*", "classes": "none", "void": "none"}
    return params.Folder(**({**plain, "fraction": "none", "test": "none", "seed": 0, "group": "none"} | values))


def inspected(folder: Path, **patterns: str) -> inspection.Inspection:
    """What `fcn inspect` finds; its report fits a screen."""
    found = inspection.inspect(folder, **patterns)
    assert len(list(summary.report(found))) < 50
    return found
