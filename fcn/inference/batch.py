"""Predict many image files; a broken one is reported, and the others are processed."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from fcn.data.labels import Labels, UInt8
from fcn.data.scale import Target
from fcn.data.split import picture
from fcn.datasets import resizing
from fcn.datasets.sources import Sample
from fcn.figures import sheets
from fcn.inference import input_files
from fcn.inference.prediction import overlay, predict, seen_size
from fcn.io import images
from fcn.models import Net
from fcn.runtime import files
from fcn.runtime.errors import UserError, printable

MAX_ROWS = 40  # images on the contact sheet
MAX_PIXELS = 1 << 30  # of one image; Pillow needs four bytes for each, and one image is in memory at a time
PARTS = ("", "geometric/")  # of the output folder, for each score path; as of data/predictions
BAR = "{desc}  {percentage:3.0f}% |{bar}| {n:.4g}/{total_fmt} images{postfix}, {remaining} left"


@dataclass(frozen=True)
class Outputs:
    """The output folder, and what is written to it: always masks; on request overlays, confidence, a contact sheet.

    geometric   whether the net has a second score path, whose files are in a subfolder
    """

    folder: Path
    overlays: bool = False
    confidence: bool = False
    sheet: bool = False
    geometric: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The subfolder of each score path."""
        return PARTS[: 1 + self.geometric]

    def of(self, name: Path) -> dict[str, Path]:
        """The output files of one image, by subfolder and kind."""
        file = name.with_name(f"{name.name}.png")
        kinds = {"mask": file, "overlay": "overlays" / file, "confidence": "confidence" / file}
        requested = {"mask": True, "overlay": self.overlays, "confidence": self.confidence}
        chosen = {kind: path for kind, path in kinds.items() if requested[kind]}
        return {part + kind: self.folder / part / path for part in self.parts for kind, path in chosen.items()}

    @property
    def contact_sheets(self) -> list[Path]:
        """The contact sheet of each score path."""
        return [self.folder / part / "sheet.png" for part in self.parts]


def run(
    net: Net,
    labels: Sequence[Labels],
    named: list[str],
    outputs: Outputs,
    tile: int,
    target: Target = lambda size: size,
) -> tuple[int, int]:
    """Predict all named images; errors of single images are printed to stderr.

    labels   of each score path
    target   maps an image's size to the size of the net's input
    returns  number of images done, number of failures
    raises   UserError if a result would overwrite an image
    """
    found, errors = input_files.find(named, outputs.folder)
    for message in errors:
        print(f"error: {printable(message)}", file=sys.stderr)
    targets = name(found, outputs)
    rows: list[list[list[UInt8]]] = [[] for _ in labels]
    shown = [sheets.counted([]) for _ in labels]
    failed = len(errors)
    with tqdm(total=len(targets), desc="predict", bar_format=BAR, disable=not sys.stderr.isatty()) as bar:
        for done, (file, paths) in enumerate(targets.items()):
            bar.set_postfix_str(printable(file.name), refresh=False)
            try:
                shown_here = _one(net, labels, file, paths, tile, target, bar.update)
            except UserError as error:
                failed += 1
                tqdm.write(f"error: {printable(str(error))}", file=sys.stderr)
            else:
                if outputs.sheet and len(rows[0]) < MAX_ROWS:
                    for path, (row, counts) in enumerate(shown_here):
                        rows[path].append(row)
                        shown[path] += counts
            bar.update(done + 1 - bar.n)
    if rows[0]:
        for each in zip(rows, labels, outputs.contact_sheets, shown, strict=True):
            sheets.sheet(*each, ["image", "prediction", "both"])
    return len(targets) + len(errors) - failed, failed


def _one(
    net: Net,
    labels: Sequence[Labels],
    file: Path,
    outputs: Mapping[str, Path],
    tile: int,
    target: Target,
    progress: Callable[[float], object],
) -> list[tuple[list[UInt8], sheets.Counts]]:
    """Predict one image and write its outputs.

    returns  for each score path the row of the contact sheet and the pixels by class
    """
    image, pixels = _read(net, file)
    size = seen_size(image.size, target, str(file), MAX_PIXELS)
    content = image if pixels is None else pixels
    results = predict(net, content, seen=size, tile=tile, confidence="confidence" in outputs, progress=progress)
    before, rows = sheets.thumbnail(image), []
    for number, (result, classes) in enumerate(zip(results, labels, strict=True), 1):
        part = PARTS[number - 1]
        sheets.save_mask(result.mask, classes, outputs[f"{part}mask"])
        if result.confidence is not None:
            files.write_png(outputs[f"{part}confidence"], Image.fromarray(result.confidence))
        mask = sheets.thumbnail(classes.picture(result.mask)).convert("RGB")
        if "overlay" in outputs:
            blended = image if number == len(results) else image.copy()
            overlay(blended, result.mask, classes)
            files.write_png(outputs[f"{part}overlay"], blended)
        row = [np.asarray(picture) for picture in (before, mask, Image.blend(before, mask, 0.5))]
        rows.append((row, sheets.counted([result.mask])))
    return rows


def _read(net: Net, file: Path) -> tuple[Image.Image, UInt8 | None]:
    """An image to look at, and the channels of all inputs if the net takes others than RGB."""
    if net.inputs == {"rgb": 3}:
        return images.rgb(images.load(file, True, largest=MAX_PIXELS), str(file)), None
    pixels = resizing.channels(Sample(file.stem, file, file, True, tuple(net.inputs)))  # type: ignore[arg-type]
    if pixels.shape[2] != sum(net.inputs.values()):
        wanted = ", ".join(f"{name} ({channels})" for name, channels in net.inputs.items())
        raise UserError(f"{file} has {pixels.shape[2]} channels; the net takes {wanted}")
    return Image.fromarray(picture(pixels)), pixels


def name(found: Sequence[tuple[Path, Path]], outputs: Outputs) -> dict[Path, dict[str, Path]]:
    """The output files of each image: the image's name, in the same subfolder of the output folder.

    Images whose names differ only by case or suffix keep their suffix: x.png and x.jpg give x.png.png and x.jpg.png.
    Remaining conflicts are resolved by a number after the name.

    raises   UserError if an output would overwrite an image, or lie outside the output folder
    """
    base = Path(commonpath([root for root, _ in found])) if found else Path()
    relative = {file: Path(file.relative_to(base)) for _, file in found}
    shared = Counter(_key(path.with_suffix("")) for path in relative.values())
    taken = {_key(sheet) for sheet in outputs.contact_sheets}
    targets = {}
    for file, path in relative.items():
        stem = path if shared[_key(path.with_suffix(""))] > 1 else path.with_suffix("")
        chosen, number = stem, 1
        while taken & {_key(target) for target in outputs.of(chosen).values()}:
            number += 1
            chosen = stem.with_name(f"{stem.name}-{number}")
        targets[file] = outputs.of(chosen)
        taken |= {_key(target) for target in targets[file].values()}
    _refuse_overwriting(targets, outputs)
    return targets


def _key(path: Path) -> str:
    """A key that is equal for names that are the same on a case-insensitive file system."""
    return str(path).casefold()


def _refuse_overwriting(targets: dict[Path, dict[str, Path]], outputs: Outputs) -> None:
    root, sources = outputs.folder.resolve(), {file.resolve() for file in targets}
    for target in [*outputs.contact_sheets, *(path for paths in targets.values() for path in paths.values())]:
        parent = target.parent.resolve()
        if parent / target.name in sources:
            raise UserError(f"{target} is one of the images; name another folder with --out")
        if not parent.is_relative_to(root):
            raise UserError(f"{target.parent} is a link out of {outputs.folder}; name another folder with --out")
