"""Late fusion: a net for each input, whose logits are averaged."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fcn.models.fcn import FCN
from fcn.models.layers import CAFFE, Dropout, Preprocessing


class LateFusion(nn.Module):
    """Nets of the same stride over the parts of an image, such as colour and HHA; the mean of their logits.

    The reference averages the scores before the last upsampling, which is linear, and so are those of the skips: the
    result is the same.

    inputs         channels of each input, by name, in the order of the image's channels
    preprocessing  of all channels
    options        of each net, as for FCN

    The weights of each net have the name of its input as prefix.

    source   paper, "NYUDv2"; nyud-fcn32s-color-hha/net.py
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        num_classes: int,
        stride: int,
        *,
        preprocessing: Preprocessing = CAFFE,
        **options: Any,
    ) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        for name, channels in inputs.items():
            self.add_module(name, FCN(num_classes, stride, inputs={name: channels}, **options))
        self.preprocessing = preprocessing
        net = self.trunks()[0][1]
        self.stride, self.at_once, self.backbone, self.heads = net.stride, net.at_once, net.backbone, net.heads

    @property
    def preprocessing(self) -> Preprocessing:
        """Of all channels; each net has that of its own."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, whole: Preprocessing) -> None:
        self._preprocessing, first = whole, 0
        for _, net in self.trunks():
            channels = sum(net.inputs.values())
            net.preprocessing = whole.part(first, channels)
            first += channels

    @property
    def dropouts(self) -> list[Dropout]:
        return [dropout for _, net in self.trunks() for dropout in net.dropouts]

    def trunks(self) -> list[tuple[str, FCN]]:
        """The net of each input and the prefix of its weights."""
        return [(f"{name}.", net) for name, net in self.named_children() if isinstance(net, FCN)]

    def forward(self, image: Tensor) -> Tensor:
        """image    (N, channels of all inputs, H, W), 0..255
        returns  (N, C, H, W) logits
        """
        parts = torch.split(image, list(self.inputs.values()), 1)
        logits = [net(part) / len(parts) for (_, net), part in zip(self.trunks(), parts, strict=True)]
        return torch.stack(logits).sum(0)


Net = FCN | LateFusion


def build(
    inputs: Mapping[str, int] | None = None, fusion: str = "early", *, preprocessing: Preprocessing, **options: Any
) -> Net:
    """The net of an architecture, as a model file's metadata describes it.

    inputs   channels of each input, by name; default: RGB
    fusion   "early": all channels into one net; "late": a net for each input
    options  as for FCN
    """
    if fusion == "late" and inputs:
        return LateFusion(inputs, preprocessing=preprocessing, **options)
    return FCN(inputs=inputs, preprocessing=preprocessing, **options)
