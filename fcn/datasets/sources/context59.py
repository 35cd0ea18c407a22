"""PASCAL-Context's 59 most frequent classes; the other 400 and unlabelled pixels are void."""

from collections.abc import Mapping
from pathlib import Path

from fcn.data.labels import VOID
from fcn.datasets.label_maps import CONTEXT59 as LABELS
from fcn.datasets.sources import _context
from fcn.datasets.sources._context import archives, samples
from fcn.params import Data

__all__ = ["LABELS", "archives", "build", "samples"]


def build(data: Data, archives: Mapping[str, Path], out: Path) -> None:
    """Extract the images and masks of the two splits."""
    _context.build(data, archives, out, LABELS, other=VOID)
