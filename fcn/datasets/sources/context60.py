"""PASCAL-Context as the reference's nets learn it: 60 classes, the first is everything that is none of the 59.

Its scores include that class; the paper's, of 59 classes, leave it out and are not comparable.
"""

from collections.abc import Mapping
from pathlib import Path

from fcn.datasets.label_maps import CONTEXT60 as LABELS
from fcn.datasets.sources import _context
from fcn.datasets.sources._context import archives, samples
from fcn.params import Data

__all__ = ["LABELS", "archives", "build", "samples"]


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Extract the images and masks of the two splits."""
    _context.build(data, archives, out, LABELS, other=0)
