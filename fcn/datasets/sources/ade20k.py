"""ADE20K's scene parsing benchmark: 150 classes; pixels of none of them (code 0) are void, as in the benchmark."""

from fcn.datasets.label_maps import ADE20K as LABELS
from fcn.datasets.sources._ade20k import archives, build, samples

__all__ = ["LABELS", "archives", "build", "samples"]
