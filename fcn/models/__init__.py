"""FCN-32s, FCN-16s and FCN-8s, their layers, and the transfer of weights between them."""

from fcn.models.fcn import FCN, State
from fcn.models.fusion import LateFusion, Net, build

__all__ = ["FCN", "LateFusion", "Net", "State", "build"]
