"""ADE20K's scene parsing benchmark with code 0 as a class: 151 classes, the first is "other"."""

from fcn.datasets.label_maps import ADE20K151 as LABELS
from fcn.datasets.sources._ade20k import archives, build, samples

__all__ = ["LABELS", "archives", "build", "samples"]
