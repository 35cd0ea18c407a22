"""Write a page of plots that works offline; with revisions, it shows their plots side by side."""

import argparse
from pathlib import Path

EXAMPLE = "make plots, or later fcn plots HEAD my-experiment"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("revisions", nargs="*", help="commits or experiments to compare; default: only the workspace")
    parser.add_argument("--out", type=Path, default=Path("dvc_plots"), help="folder for the page (default dvc_plots)")


def run(arguments: argparse.Namespace) -> None:
    from fcn.experiments import plots

    print(f"wrote {plots.page(arguments.out, arguments.revisions)}")
