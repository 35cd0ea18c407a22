"""Segment images of any size with a trained net, and write the masks."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fcn.runtime.errors import UserError, counted

MAX_SCALE = 100
MAX_LISTED = 12  # classes named in the output
EXAMPLE = "fcn predict photos/ 'more/*.jpg' --out masks --overlays --sheet"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", help="files, folders, patterns such as 'photos/*.jpg'")
    parser.add_argument("--out", type=Path, required=True, help="folder for masks: palette PNG, pixel = class")
    parser.add_argument("--model", type=Path, default=Path("data/weights/fcn8s.safetensors"), help="model file")
    parser.add_argument(
        "--scale",
        type=float,
        metavar="FACTOR",
        help="resize images by this factor for the net; 1 keeps their size; default: as the net was evaluated",
    )
    parser.add_argument("--overlays", action="store_true", help="also write the image overlaid with the class colours")
    parser.add_argument("--confidence", action="store_true", help="also write each pixel's probability, as grey values")
    parser.add_argument("--sheet", action="store_true", help="also write a sheet of the first 40 images and masks")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="side of the tiles that large images are split into")


def listed(names: Sequence[str]) -> str:
    """The class numbers and names of a net, the first MAX_LISTED."""
    numbered = [f"{number} {name}" for number, name in enumerate(names)]
    return ", ".join(numbered[:MAX_LISTED]) + (", …" if len(numbered) > MAX_LISTED else "")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    if arguments.scale is not None and not 0 < arguments.scale <= MAX_SCALE:
        raise UserError(f"--scale is {arguments.scale:g}; write a factor between 0 and {MAX_SCALE}, such as 0.5")
    machine.prepare()
    from fcn.data.scale import Scale, Target, by
    from fcn.inference import batch, prediction

    net, labels, scale = prediction.load(arguments.model)
    target: Target = scale.target
    resizing = str(scale)
    if arguments.scale is not None:
        target, resizing = by(arguments.scale), f"resized by {arguments.scale:g}"
    if scale != Scale() or arguments.scale is not None:
        print(f"images are {resizing} for the net; masks have the images' original size")
    outputs = batch.Outputs(arguments.out, arguments.overlays, arguments.confidence, arguments.sheet, len(labels) > 1)
    done, failed = batch.run(net, labels, arguments.images, outputs, arguments.tile or prediction.TILE, target)
    if done:
        print(f"wrote the masks of {counted(done, 'image')} to {arguments.out}")
        for part, classes in zip(outputs.parts, labels, strict=True):
            where = f" in {arguments.out / part}" if part else ""
            print(f"a mask's pixels{where} are class numbers: {listed(classes.names)}")
    if failed:
        raise UserError(f"{counted(failed, 'input')} failed; the lines above say why")
