"""Find the images of further inputs in a folder: depth, HHA and infrared, in folders beside those of images."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fcn.datasets.pairing import Pair
from fcn.datasets.sources import BESIDE, Sample
from fcn.inspection import scan
from fcn.inspection.scan import ScannedPair
from fcn.params import Input
from fcn.runtime.errors import UserError

MODES = {"depth": ("I", "I;16", "I;16B", "I;16L", "I;16N"), "infrared": ("L",)}  # Pillow's; HHA is read as RGB


def names(pictures: Iterable[str], kinds: Sequence[Input] = BESIDE) -> set[str]:
    """The files of these inputs that the images would have beside them; images in other folders have none."""
    found = set()
    for picture in pictures:
        for kind in kinds:
            try:
                found.add(str(Sample("", Path(picture), Path()).beside(kind)))
            except UserError:
                break
    return found


def find(
    folder: Path, files: Iterable[str], pairs: Sequence[Pair], scans: Sequence[ScannedPair]
) -> tuple[list[Input], list[str]]:
    """The further inputs that every image has, and warnings about those that some images lack or have wrongly."""
    files, found, warnings = set(files), list[Input](), list[str]()
    for kind in BESIDE:
        beside = {name: one for pair, one in zip(pairs, scans, strict=True) for name in names([pair.image], [kind])}
        if not beside.keys() & files:
            continue
        problems = [f"{name} is missing" for name in beside if name not in files]
        problems = problems or [fault for name, one in beside.items() if (fault := _fault(folder, name, kind, one))]
        if problems:
            warnings.append(f"{kind} is not used as an input: {problems[0]}")
        else:
            found.append(kind)
    return found, warnings


def _fault(folder: Path, name: str, kind: Input, pair: ScannedPair) -> str:
    """Why a file cannot be this input of an image; empty if it can."""
    try:
        info = scan.information(folder / name)
    except UserError as error:
        return str(error).replace(f"{folder}/", "")
    if info.mode not in MODES.get(kind, (info.mode,)):
        return f"{name} has mode {info.mode}; {kind} is a greyscale image of {16 if kind == 'depth' else 8} bits"
    if pair.image and info.size != pair.image.size:
        return f"{name} is {info.size[0]}x{info.size[1]}, its image is {pair.image.size[0]}x{pair.image.size[1]}"
    return ""
