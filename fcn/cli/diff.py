"""Show which images and masks of the data set were added, removed or edited, and write a sheet of the changes.

It compares the data sets of two commits or DVC experiments, or of one with the working tree: for your own images
data/own/NAME, else data/raw. Only changed files are decoded.
"""

import argparse
from pathlib import Path

EXAMPLE = "fcn diff; fcn diff HEAD~1 HEAD"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", nargs="?", default="HEAD", metavar="A", help="commit or DVC experiment (default HEAD)")
    parser.add_argument("b", nargs="?", metavar="B", help="commit or DVC experiment (default: the working tree)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="PNG file (default .fcn/diff.png)")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine
    from fcn.runtime.errors import UserError, counted

    if arguments.sheet and arguments.sheet.suffix != ".png":
        raise UserError(f"--sheet is {arguments.sheet}; write a name that ends in .png")
    from fcn.comparison import data, data_sheet

    with data.state(arguments.a) as one, data.state(arguments.b) as other:
        changes = []
        for change in data.diff(one, other):
            print(data.line(change, other.labels))
            changes.append(change)
        if not changes:
            print(f"no image and no mask differs; {one.label} has {counted(len(one.samples), 'image')}")
        else:
            print()
        if one.labels.names != other.labels.names:
            print(f"the classes differ: {', '.join(one.labels.names)} → {', '.join(other.labels.names)}")
        if moved := data.moved_between_splits(one, other):
            print(f"{counted(len(moved), 'image')} in another split, such as {moved[0]}")
        if not changes:
            return
        print(f"{len(changes)} of {counted(len(one.samples.keys() | other.samples.keys()), 'image')} changed")
        if sums := data.total(changes):
            print(f"{counted(sum(sums.values()), 'pixel')} moved between classes{data.listed(sums, other.labels)}")
        path = arguments.sheet or machine.root() / ".fcn" / "diff.png"
        data_sheet.write(changes, other.labels, path)
        print(f"wrote {path}")
