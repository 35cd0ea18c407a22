"""Many images in, their masks out: one that is broken is named, and keeps none of the others waiting."""

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
from fcn.figures import sheets
from fcn.inference import input_files
from fcn.inference.prediction import overlay, predict, seen_size
from fcn.io import images
from fcn.models import FCN
from fcn.runtime.errors import UserError, printable

SHEET = 40  # images that a contact sheet shows at most
LARGEST = 1 << 30  # pixels, of one image at a time; Pillow holds four bytes for each
BAR = "{desc}  {percentage:3.0f}% |{bar}| {n:.4g}/{total_fmt} images{postfix}, {remaining} left"


@dataclass(frozen=True)
class Outputs:
    """Where pictures go, and which: masks always."""

    folder: Path
    overlays: bool = False
    confidence: bool = False
    sheet: bool = False

    def of(self, name: Path) -> dict[str, Path]:
        """The files made of one image."""
        file = name.with_name(f"{name.name}.png")
        kinds = {"mask": file, "overlay": "overlays" / file, "confidence": "confidence" / file}
        asked = {"mask": True, "overlay": self.overlays, "confidence": self.confidence}
        return {kind: self.folder / path for kind, path in kinds.items() if asked[kind]}

    @property
    def contact_sheet(self) -> Path:
        return self.folder / "sheet.png"


def run(
    net: FCN, labels: Labels, named: list[str], outputs: Outputs, tile: int, target: Target = lambda size: size
) -> tuple[int, int]:
    """Predicts every image that is named, and says on stderr which could not be.

    target   the size at which the net sees an image
    returns  how many were done, how many were not
    raises   UserError if nothing is found, or a result would overwrite an image
    """
    found, findings = input_files.find(named, outputs.folder)
    for finding in findings:
        print(f"error: {printable(finding)}", file=sys.stderr)
    targets = name(found, outputs)
    rows: list[list[UInt8]] = []
    shown = sheets.counted([])
    failed = len(findings)
    with tqdm(total=len(targets), desc="predict", bar_format=BAR, disable=not sys.stderr.isatty()) as bar:
        for done, (file, paths) in enumerate(targets.items()):
            bar.set_postfix_str(printable(file.name), refresh=False)
            try:
                row, counts = _one(net, labels, file, paths, tile, target, bar.update)
            except UserError as error:
                failed += 1
                tqdm.write(f"error: {printable(str(error))}", file=sys.stderr)
            else:
                if outputs.sheet and len(rows) < SHEET:
                    rows.append(row)
                    shown += counts
            bar.update(done + 1 - bar.n)
    if rows:
        sheets.sheet(rows, labels, outputs.contact_sheet, shown, ["image", "prediction", "both"])
    return len(targets) + len(findings) - failed, failed


def _one(
    net: FCN,
    labels: Labels,
    file: Path,
    outputs: Mapping[str, Path],
    tile: int,
    target: Target,
    progress: Callable[[float], object],
) -> tuple[list[UInt8], sheets.Counts]:
    """Predicts one image, writes what is asked for, and gives its row of the contact sheet and pixels by class."""
    image = images.rgb(images.load(file, True, largest=LARGEST), str(file))
    size = seen_size(image.size, target, str(file), LARGEST)
    result = predict(net, image, seen=size, tile=tile, confidence="confidence" in outputs, progress=progress)
    sheets.save_mask(result.mask, labels, outputs["mask"])
    if result.confidence is not None:
        sheets.save(Image.fromarray(result.confidence), outputs["confidence"])
    before, mask = sheets.thumbnail(image), sheets.thumbnail(labels.picture(result.mask)).convert("RGB")
    if "overlay" in outputs:
        overlay(image, result.mask, labels)
        sheets.save(image, outputs["overlay"])
    row = [np.asarray(picture) for picture in (before, mask, Image.blend(before, mask, 0.5))]
    return row, sheets.counted([result.mask])


def name(found: Sequence[tuple[Path, Path]], outputs: Outputs) -> dict[Path, dict[str, Path]]:
    """The files to be made of each image: named as it is, in the same folders below the outputs' one.

    Images whose names differ by no more than case or ending keep their ending: x.png and x.jpg give
    x.png.png and x.jpg.png; a number behind the name settles what is left.

    raises   UserError if one would overwrite an image, or lie elsewhere
    """
    base = Path(commonpath([root for root, _ in found])) if found else Path()
    relative = {file: Path(file.relative_to(base)) for _, file in found}
    shared = Counter(_key(path.with_suffix("")) for path in relative.values())
    taken = {_key(outputs.contact_sheet)}
    targets = {}
    for file, path in relative.items():
        own = path if shared[_key(path.with_suffix(""))] > 1 else path.with_suffix("")
        chosen, number = own, 1
        while taken & {_key(target) for target in outputs.of(chosen).values()}:
            number += 1
            chosen = own.with_name(f"{own.name}-{number}")
        targets[file] = outputs.of(chosen)
        taken |= {_key(target) for target in targets[file].values()}
    _refuse_overwriting(targets, outputs)
    return targets


def _key(path: Path) -> str:
    """Names that a file system may take for the same one."""
    return str(path).casefold()


def _refuse_overwriting(targets: dict[Path, dict[str, Path]], outputs: Outputs) -> None:
    whole, sources = outputs.folder.resolve(), {file.resolve() for file in targets}
    for target in [outputs.contact_sheet, *(path for paths in targets.values() for path in paths.values())]:
        place = target.parent.resolve()
        if place / target.name in sources:
            raise UserError(f"{target} is one of the images; name another folder with --out")
        if not place.is_relative_to(whole):
            raise UserError(f"{target.parent} leads out of {outputs.folder}; name another folder with --out")
