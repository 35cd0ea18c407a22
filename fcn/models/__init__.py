"""FCN-32s, FCN-16s and FCN-8s, their layers, and their model files."""

from fcn.models.fcn import FCN

__all__ = ["FCN"]
