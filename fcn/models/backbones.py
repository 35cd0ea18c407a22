"""Backbones: ImageNet nets as blocks of convolutions, each block followed by pooling, then fc6 and fc7."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Pad = Literal[100, "same"]
# Crop offsets in pixels: first row and column kept of the pool4 and pool3 scores, and of the final upsampling at
# each stride. With pad 100 the finer map is cropped, as in the reference. With pad same the upsampled map is cropped.
Crops = dict[str | int, int]


@dataclass(frozen=True)
class Convolution:
    """A convolution that is followed by a ReLU.

    pad      zeros on each side, in pixels; the first convolution of a net has 100 instead with pad 100
    groups   its channels are divided into, each computed from its share of the inputs
    """

    name: str
    channels: int
    kernel: int = 3
    stride: int = 1
    pad: int = 1
    groups: int = 1


@dataclass(frozen=True)
class Backbone:
    """An ImageNet net whose fully connected layers have become the convolutions fc6 and fc7.

    blocks     convolutions of each block, each block followed by pooling with stride 2
    skips      index of the blocks after which the stride is 8 and 16
    fc         output channels of fc6 and fc7
    kernel     of fc6
    fc6_pad    zeros before and after fc6's input with pad same
    pool       kernel of the poolings
    crops      by pad
    expansion  an upsampling by f has a kernel of 2 f - expansion: 0 or 1, so that all crops are whole pixels
    norm       kinds of layers followed by batch norm: conv, fc
    pooling    max or avg
    lrn        whether the first two poolings are followed by local response normalization
    """

    blocks: tuple[tuple[Convolution, ...], ...]
    skips: tuple[int, int]
    fc: int
    kernel: int
    fc6_pad: tuple[int, int]
    pool: int
    crops: dict[Pad, Crops]
    expansion: int = 0
    norm: tuple[str, ...] = ()
    pooling: Literal["max", "avg"] = "max"
    lrn: bool = False

    @property
    def border_apart(self) -> bool:
        """Whether the zero border can be computed separately: fcn.kernels.border knows VGG's layers only.

        Batch norm's statistics include every pixel of the border.
        """
        return self.pool == 2 and not self.norm


def vgg(
    convolutions: Sequence[int],
    channels: Sequence[int],
    fc: int,
    norm: tuple[str, ...] = (),
    pooling: Literal["max", "avg"] = "max",
) -> Backbone:
    """A VGG net: five blocks of 3×3 convolutions and 2×2 poolings.

    convolutions   per block
    channels       output channels of each block
    """
    blocks = tuple(
        tuple(Convolution(f"conv{block}_{i}", width) for i in range(1, count + 1))
        for block, (count, width) in enumerate(zip(convolutions, channels, strict=True), 1)
    )
    crops: dict[Pad, Crops] = {
        100: {"pool4": 5, "pool3": 9, 32: 19, 16: 27, 8: 31},
        "same": {"pool4": 1, "pool3": 1, 32: 16, 16: 8, 8: 4},
    }
    return Backbone(blocks, (2, 3), fc, 7, (3, 3), 2, crops, norm=norm, pooling=pooling)


def alexnet(channels: Sequence[int], fc: int) -> Backbone:
    """AlexNet: three blocks, grouped convolutions, local response normalization and overlapping poolings.

    The reference has FCN-32s only (voc-fcn-alexnet). FCN-16s and FCN-8s score the poolings of stride 16 and 8, and
    keep the layers' names score_pool4 and score_pool3.

    channels   output channels of conv1 to conv5
    source     voc-fcn-alexnet/net.py; Krizhevsky, Sutskever and Hinton, NIPS 2012
    """
    one, two, three, four, five = channels
    blocks = (
        (Convolution("conv1", one, 11, 4, 5),),
        (Convolution("conv2", two, 5, 1, 2, groups=2),),
        (Convolution("conv3", three), Convolution("conv4", four, groups=2), Convolution("conv5", five, groups=2)),
    )
    crops: dict[Pad, Crops] = {
        100: {"pool4": 5, "pool3": 10, 32: 18, 16: 18, 8: 18},
        "same": {"pool4": 0, "pool3": 1, 32: 15, 16: 15, 8: 7},
    }
    return Backbone(blocks, (0, 1), fc, 6, (2, 3), 3, crops, expansion=1, lrn=True)


WIDE = (64, 128, 256, 512, 512)
BACKBONES = {
    "vgg16": vgg((2, 2, 3, 3, 3), WIDE, 4096),
    "vgg16_bn": vgg((2, 2, 3, 3, 3), WIDE, 4096, norm=("conv",)),
    "vgg19": vgg((2, 2, 4, 4, 4), WIDE, 4096),
    # Up to conv5_3, with average pooling: FCN.tensorflow's net for MIT Scene Parsing.
    "vgg19_avg": vgg((2, 2, 4, 4, 3), WIDE, 4096, pooling="avg"),
    "slim": vgg((2, 2, 3, 3, 3), (16, 32, 64, 128, 128), 512, norm=("conv", "fc")),
    "alexnet": alexnet((96, 256, 384, 384, 256), 4096),
}
