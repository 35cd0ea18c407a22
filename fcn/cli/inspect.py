"""Inspect a folder of your own images and masks or annotations, and create an experiment from it.

Prints sizes, file formats, classes with their share of pixels, and problems, then the part of a recipe that reads the
folder. With --adopt NAME, it copies the folder to data/own/NAME, adds it to DVC, and writes the complete recipe to
recipes/own-NAME.yaml. Annotations of labelling tools are converted to masks; docs/data.md lists the formats.
"""

import argparse
import shlex
import sys
from pathlib import Path

EXAMPLE = "fcn inspect ~/photos --adopt photos && fcn recipe own-photos && dvc repro"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="a folder with images and masks or annotations")
    parser.add_argument("--adopt", metavar="NAME", help="copy it to data/own/NAME and write recipes/own-NAME.yaml")
    parser.add_argument("--images", metavar="PATTERN", help="where images are, such as 'images/*'")
    parser.add_argument("--masks", metavar="PATTERN", help="where masks are, such as 'masks/*_mask'")
    parser.add_argument(
        "--annotations", metavar="PATTERN", help="which annotation files to read, such as 'annotations/instances_*'"
    )


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    machine.prepare()
    from fcn.datasets.sources.folder import OWN
    from fcn.inspection import adoption, conversion, summary

    if arguments.adopt is not None:
        adoption.check_name(arguments.adopt)
        adoption.check_free(arguments.adopt)
    with conversion.inspected(arguments.dir, arguments.images, arguments.masks, arguments.annotations) as result:
        for line in summary.report(result):
            print(line)
        shown = machine.root() / ".fcn" / "inspect.png"
        if result.source and summary.sheet(result, shown):
            print(f"  some images with their masks: {shown}")
        for line in adoption.costs(result):
            print(line)
        if arguments.adopt is not None:
            for line in adoption.adopt(result, arguments.adopt):
                print(line)
        elif result.errors:
            sys.exit(1)
        else:
            print(f"\nits recipe, where it differs from {adoption.LIKE}:\n{adoption.excerpt(result)}")
            if arguments.dir.resolve().parent == OWN.resolve():
                print(f"it is adopted already; next: fcn recipe own-{arguments.dir.name} && dvc repro")
                return
            print(f"next: fcn inspect {shlex.quote(str(arguments.dir))} --adopt NAME")
