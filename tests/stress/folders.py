"""Hostile folders, made at random from a valid one: each inspected to the end, or refused in one line.

What is done to a folder is drawn from some bytes, so that `make malformed` and `make fuzz` can mutate them as they do
files, and a finding is a file of some bytes.
"""

import io
import os
import random
import shutil
import subprocess
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fcn.inspection import adoption, inspection, summary
from fcn.runtime.errors import UserError

LETTERS = "ab1_-. */\\\"'#äß道\u0308\u202e\x1b\t\n=+@"
LINES = (
    "0",
    "1 ",
    "images/2.png masks/2.png",
    "  ",
    "void,255",
    "name,code",
    "a,1,2,3",
    "a;1",
    "\ufeff",
    "=1",
    "x" * 200_000,
)
CELLS = ("a", "", "0", "255", "9" * 5000, "-1", "1,2,3", "300,0,0", "void", "x" * 200_000, "\0", '"', "²")
PATTERNS = (
    "images/*",
    "*",
    "masks/*",
    "**",
    "*a" * 40,
    "*" * 500 + "b",
    "nothing",
    "../*",
    "/etc/*",
    "*/*/*",
    "[*",
    "(*",
)


@cache
def _plain() -> dict[str, bytes]:
    rng, files = np.random.default_rng(0), {}
    for i in range(4):
        for name, pixels in (
            (f"images/{i}.png", rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)),
            (f"masks/{i}.png", rng.integers(0, 2, (6, 4), dtype=np.uint8)),
        ):
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            files[name] = stream.getvalue()
    return files


def seeds() -> dict[str, bytes]:
    """Bytes that leave the folder as it is."""
    return {"unchanged": b"unchanged"}


def inspected(recipe: bytes, place: Path) -> None:
    """Makes a folder of what is drawn from the bytes `recipe`, beneath `place`, and lets inspect look at it.

    raises   UserError if it is refused; AssertionError if what is said of it has broken lines
    """
    shutil.rmtree(place, ignore_errors=True)
    folder = place / "folder"
    (place / "outside").mkdir(parents=True)
    (place / "outside" / "secret.png").write_bytes(_plain()["images/0.png"])
    for name, content in _plain().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    rng = random.Random(recipe)
    patterns: list[str | None] = [None, None]
    if recipe not in seeds().values():
        for change in rng.choices(CHANGES, k=rng.choice((1, 1, 2, 4, 8))):
            with suppress(OSError, ValueError):  # a name that no file can have
                change(folder, rng)
        patterns = [rng.choice(PATTERNS) if rng.random() < 0.1 else None for _ in patterns]
    try:
        found = inspection.inspect(folder, *patterns)
        said = [*summary.report(found), *found.errors, *found.notes]
        assert not any("outside" in os.path.realpath(folder / pair.image) for pair in found.matches.pairs)
        assert not any(unicodedata.category(letter) == "Cc" for line in said for letter in line), said
        if not found.errors:
            adoption.recipe(found, "mine")
    except UserError as error:
        if any(unicodedata.category(letter) == "Cc" for letter in str(error)):
            raise AssertionError(f"control characters in {error!r}") from None
        raise
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)  # shutil's own way is recursive, as deep as the folder


def _name(rng: random.Random) -> str:
    return "".join(rng.choices(LETTERS, k=rng.choice((1, 3, 12, 200)))) + rng.choice((".png", ".txt", ".csv", ""))


def _some(folder: Path, rng: random.Random) -> Path:
    """A file of the folder, or one that inspect looks for."""
    return folder / rng.choice((*sorted(_plain()), "classes.csv", "classes.txt", "train.txt", "val.txt", "images"))


def _gone(path: Path) -> Path:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    return path


def _link(folder: Path, rng: random.Random) -> None:
    path = _gone(_some(folder, rng))
    targets = (
        folder,
        folder.parent,
        folder.parent / "outside",
        folder.parent / "outside/secret.png",
        path,
        "/dev/zero",
    )
    path.symlink_to(rng.choice((*targets, "/proc/self/mem", "/dev/null", folder / "images/0.png", "nowhere", "../..")))


def _pipe(folder: Path, rng: random.Random) -> None:
    os.mkfifo(folder / ".pipe")
    _gone(_some(folder, rng)).symlink_to(folder / ".pipe")


def _sparse(folder: Path, rng: random.Random) -> None:
    with _gone(_some(folder, rng)).open("wb") as file:
        file.write(rng.choice((b"", b"\x89PNG\r\n\x1a\n", b"a\n")))
        file.truncate(rng.choice((1 << 20, 1 << 34, 1 << 40)))


def _deep(folder: Path, rng: random.Random) -> None:
    for _ in range(rng.choice((5, 31, 33, 300))):
        folder = folder / rng.choice("ab")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "0.png").write_bytes(_plain()["images/0.png"])


def _wide(folder: Path, rng: random.Random) -> None:
    for i in range(rng.choice((10, 300))):
        (folder / f"{rng.choice(('test', 'images', 'a_b', 'masks'))}").mkdir(exist_ok=True)
        (folder / rng.choice(("test", "images", "a_b", "masks")) / f"{i}{_name(rng)[:9]}.png").touch()


def _move(folder: Path, rng: random.Random) -> None:
    target = folder / rng.choice(("test", "train", "val", "other", "image")) / rng.choice(("", "label", "image"))
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / rng.choice(("images", "masks"))).rename(target)


def _copy(folder: Path, rng: random.Random) -> None:
    source, target = rng.choice(("images", "masks")), folder / rng.choice(("test", "train/image", "val", "b"))
    target.mkdir(parents=True)
    for name, content in _plain().items():
        if name.startswith(source):
            (target / Path(name).name).write_bytes(content)


def _rename(folder: Path, rng: random.Random) -> None:
    _some(folder, rng).rename(folder / rng.choice(("", "images", "masks")) / _name(rng))


def _text(folder: Path, rng: random.Random) -> None:
    lines = (
        rng.choices(LINES, k=rng.choice((1, 4, 400)))
        if rng.random() < 0.5
        else [
            rng.choice(",;\t").join(rng.choices(CELLS, k=rng.choice((1, 2, 4, 5))))
            for _ in range(rng.choice((1, 3, 300)))
        ]
    )
    name = rng.choice(("classes.csv", "classes.txt", "class_dict.csv", "train.txt", "val.txt", "a/train.txt"))
    (folder / name).parent.mkdir(exist_ok=True)
    _gone(folder / name).write_text("\n".join(lines), encoding="utf-8")


def _bytes(folder: Path, rng: random.Random) -> None:
    path = _gone(_some(folder, rng))
    content = bytearray(_plain().get(path.relative_to(folder).as_posix(), b"a\nb"))
    for _ in range(rng.choice((1, 5))):
        at = rng.randrange(len(content) + 1)
        content[at : at + rng.choice((0, 1, 8))] = rng.randbytes(rng.choice((0, 1, 8)))
    path.write_bytes(content)


def _picture(folder: Path, rng: random.Random) -> None:
    mode, size = (
        rng.choice(("1", "L", "P", "RGB", "RGBA", "I;16", "LA", "CMYK", "F")),
        rng.choice(((4, 6), (6, 4), (1, 1), (300, 300))),
    )
    kind = rng.choice(("PNG", "TIFF", "JPEG", "BMP", "WEBP"))
    picture: Any = Image.new(mode, size)
    if rng.random() < 0.3 and mode == "RGB":
        picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    stream = io.BytesIO()
    picture.save(stream, kind)
    _gone(_some(folder, rng)).write_bytes(stream.getvalue())


CHANGES: tuple[Callable[[Path, random.Random], None], ...] = (
    *(_link, _pipe, _sparse, _deep, _wide, _move, _copy, _rename, _text, _text, _bytes, _picture),
)
