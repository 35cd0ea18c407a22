"""Write the masks that a trained net gives to images of any size."""

import argparse
from pathlib import Path

from fcn.errors import UserError, counted

EXAMPLE = "fcn predict photos/ 'more/*.jpg' --out masks --overlays --sheet"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", help="files, folders, patterns such as 'photos/*.jpg'")
    parser.add_argument("--out", type=Path, required=True, help="folder for masks: palette PNG, a pixel is its class")
    parser.add_argument("--model", type=Path, default=Path("data/weights/fcn8s.safetensors"), help="model file")
    parser.add_argument("--overlays", action="store_true", help="also the image below the classes' colours")
    parser.add_argument("--confidence", action="store_true", help="also the probability of each pixel's class, as grey")
    parser.add_argument("--sheet", action="store_true", help="also one picture of the first 40 images and their masks")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="side of the pieces that large images are cut into")


def run(arguments: argparse.Namespace) -> None:
    from fcn import machine

    machine.prepare()
    from fcn import gallery, prediction

    net, labels = prediction.load(arguments.model)
    outputs = gallery.Outputs(arguments.out, arguments.overlays, arguments.confidence, arguments.sheet)
    done, failed = gallery.run(net, labels, arguments.images, outputs, arguments.tile or prediction.TILE)
    print(f"wrote the masks of {counted(done, 'image')} to {arguments.out}")
    if failed:
        raise UserError(f"{failed} of what was named could not be predicted; the lines above say why")
