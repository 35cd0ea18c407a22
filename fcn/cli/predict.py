"""Write the masks that a trained net gives to images of any size."""

import argparse
from pathlib import Path

from fcn.runtime.errors import UserError, counted

LARGEST = 100
EXAMPLE = "fcn predict photos/ 'more/*.jpg' --out masks --overlays --sheet"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", help="files, folders, patterns such as 'photos/*.jpg'")
    parser.add_argument("--out", type=Path, required=True, help="folder for masks: palette PNG, a pixel is its class")
    parser.add_argument("--model", type=Path, default=Path("data/weights/fcn8s.safetensors"), help="model file")
    parser.add_argument(
        "--scale",
        type=float,
        metavar="FACTOR",
        help="resize images by this for the net; 1 keeps their size; by default as for the net's scores",
    )
    parser.add_argument("--overlays", action="store_true", help="also the image below the classes' colours")
    parser.add_argument("--confidence", action="store_true", help="also the probability of each pixel's class, as grey")
    parser.add_argument("--sheet", action="store_true", help="also one picture of the first 40 images and their masks")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="side of the pieces that large images are cut into")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    if arguments.scale is not None and not 0 < arguments.scale <= LARGEST:
        raise UserError(f"--scale is {arguments.scale:g}; write a factor between 0 and {LARGEST}, such as 0.5")
    machine.prepare()
    from fcn.data.scale import Scale, Target, by
    from fcn.inference import batch, prediction

    net, labels, scale = prediction.load(arguments.model)
    target: Target = scale.target
    said = str(scale)
    if arguments.scale is not None:
        target, said = by(arguments.scale), f"resized by {arguments.scale:g}"
    if scale != Scale() or arguments.scale is not None:
        print(f"images are {said} for the net, masks have their own size")
    outputs = batch.Outputs(arguments.out, arguments.overlays, arguments.confidence, arguments.sheet)
    done, failed = batch.run(net, labels, arguments.images, outputs, arguments.tile or prediction.TILE, target)
    if done:
        print(f"wrote the masks of {counted(done, 'image')} to {arguments.out}")
    if failed:
        raise UserError(f"{failed} of what was named could not be predicted; the lines above say why")
