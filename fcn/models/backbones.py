"""Backbones: ImageNet nets as blocks of convolutions, each block followed by pooling, then fc6 and fc7 if any."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Pad = Literal[100, "same"]
# Crop offsets in pixels: first row and column kept of the pool4 and pool3 scores, and of the final upsampling at
# each stride. With pad 100 fc6 makes the coarser map the smaller one, and the finer map is cropped, as in the
# reference. With pad same, or without fc6, the upsampled map is cropped.
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
class Inception:
    """Four branches over the same map, whose outputs are concatenated; each convolution is followed by a ReLU.

    one      channels of the 1×1 convolution
    three    channels of a 1×1 convolution, and of the 3×3 convolution after it
    five     the same for a 5×5 convolution
    pooled   channels of the 1×1 convolution after a 3×3 pooling with stride 1

    kernel, stride, pad   of the branch that sees farthest, the one with the 5×5 convolution

    source   Szegedy et al., CVPR 2015, figure 2b
    """

    name: str
    one: int
    three: tuple[int, int]
    five: tuple[int, int]
    pooled: int
    kernel: int = 5
    stride: int = 1
    pad: int = 2

    @property
    def channels(self) -> int:
        return self.one + self.three[1] + self.five[1] + self.pooled

    @property
    def branches(self) -> list[list[Convolution]]:
        """The convolutions of each branch, in the order of the concatenation; the last branch begins with a pooling."""

        def branch(*rows: tuple[str, int, int]) -> list[Convolution]:
            return [Convolution(f"{self.name}/{name}", n, k, pad=k // 2) for name, n, k in rows]

        return [
            branch(("1x1", self.one, 1)),
            branch(("3x3_reduce", self.three[0], 1), ("3x3", self.three[1], 3)),
            branch(("5x5_reduce", self.five[0], 1), ("5x5", self.five[1], 5)),
            branch(("pool_proj", self.pooled, 1)),
        ]


@dataclass(frozen=True)
class Backbone:
    """An ImageNet net whose fully connected layers, if it has any, have become the convolutions fc6 and fc7.

    blocks     layers of each block, each block followed by pooling with stride 2
    skips      index of the blocks after which the stride is 8 and 16
    fc         output channels of fc6 and fc7; 0: the net has neither, and its last block is not pooled
    kernel     of fc6
    fc6_pad    zeros before and after fc6's input with pad same
    pool       kernel of the poolings
    crops      by pad
    expansion  an upsampling by f has a kernel of 2 f - expansion: 0 or 1, so that all crops are whole pixels
    norm       kinds of layers followed by batch norm: conv, fc
    pooling    max or avg
    lrn        layers followed by local response normalization; pool1 is the pooling of the first block
    """

    blocks: tuple[tuple[Convolution | Inception, ...], ...]
    skips: tuple[int, int]
    fc: int
    kernel: int
    fc6_pad: tuple[int, int]
    pool: int
    crops: dict[Pad, Crops]
    expansion: int = 0
    norm: tuple[str, ...] = ()
    pooling: Literal["max", "avg"] = "max"
    lrn: tuple[str, ...] = ()

    @property
    def poolings(self) -> int:
        """Number of blocks that are followed by a pooling."""
        return len(self.blocks) - (not self.fc)

    @property
    def width(self) -> int:
        """Channels from which the coarsest score layer computes its scores."""
        return self.fc or self.blocks[-1][-1].channels

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


def alexnet(channels: Sequence[int], fc: int, norm: tuple[str, ...] = ()) -> Backbone:
    """AlexNet: three blocks, grouped convolutions, local response normalization and overlapping poolings.

    The reference has FCN-32s only (voc-fcn-alexnet). FCN-16s and FCN-8s score the poolings of stride 16 and 8, and
    keep the layers' names score_pool4 and score_pool3.

    channels   output channels of conv1 to conv5
    norm       kinds of layers followed by batch norm, which replaces local response normalization
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
    lrn = () if norm else ("pool1", "pool2")
    return Backbone(blocks, (0, 1), fc, 6, (2, 3), 3, crops, expansion=1, norm=norm, lrn=lrn)


# Channels of the inceptions: 1×1, 3×3_reduce, 3×3, 5×5_reduce, 5×5, pool_proj.
# source   models/bvlc_googlenet/train_val.prototxt of BVLC/caffe
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(divisor: int = 1, norm: tuple[str, ...] = ()) -> Backbone:
    """GoogLeNet up to its last inception, without the average pooling and the auxiliary classifiers.

    The paper describes FCN-32s only, and its net was not published. FCN-16s and FCN-8s score the poolings of stride 16
    and 8, and keep the layers' names score_pool4 and score_pool3.

    divisor    of the original numbers of channels; at least one channel is left
    norm       kinds of layers followed by batch norm, which replaces local response normalization
    source     paper sec. 4.1; train_val.prototxt as above; Szegedy et al., CVPR 2015
    """

    def share(channels: int) -> int:
        return max(1, channels // divisor)

    def inceptions(number: int) -> tuple[Inception, ...]:
        rows = {name: [*map(share, row)] for name, row in INCEPTIONS.items() if name.startswith(str(number))}
        return tuple(Inception(f"inception_{name}", a, (b, c), (d, e), f) for name, (a, b, c, d, e, f) in rows.items())

    reduce = Convolution("conv2/3x3_reduce", share(64), 1, pad=0)
    blocks: tuple[tuple[Convolution | Inception, ...], ...] = (
        (Convolution("conv1/7x7_s2", share(64), 7, 2, 3),),
        (reduce, Convolution("conv2/3x3", share(192))),
        *map(inceptions, (3, 4, 5)),
    )
    crops: dict[Pad, Crops] = {
        100: {"pool4": 0, "pool3": 0, 32: 98, 16: 98, 8: 98},
        "same": {"pool4": 1, "pool3": 1, 32: 31, 16: 15, 8: 7},
    }
    lrn = () if norm else ("pool1", "conv2/3x3")
    return Backbone(blocks, (1, 2), 0, 1, (0, 0), 3, crops, expansion=1, norm=norm, lrn=lrn)


def batch_norm(layer: str) -> str:
    """The name of a layer's batch norm: bn1_1 for conv1_1, bn6 for fc6, inception_3a/1x1/bn for inception_3a/1x1."""
    return f"{layer}/bn" if "/" in layer else layer.replace("conv", "bn").replace("fc", "bn")


WIDE = (64, 128, 256, 512, 512)
# The slim nets have a quarter of the channels, an eighth in fc6 and fc7, and batch norm: they train from scratch.
BACKBONES = {
    "vgg16": vgg((2, 2, 3, 3, 3), WIDE, 4096),
    "vgg16_bn": vgg((2, 2, 3, 3, 3), WIDE, 4096, norm=("conv",)),
    "vgg19": vgg((2, 2, 4, 4, 4), WIDE, 4096),
    # Up to conv5_3, with average pooling: FCN.tensorflow's net for MIT Scene Parsing.
    "vgg19_avg": vgg((2, 2, 4, 4, 3), WIDE, 4096, pooling="avg"),
    "alexnet": alexnet((96, 256, 384, 384, 256), 4096),
    "googlenet": googlenet(),
    "slim": vgg((2, 2, 3, 3, 3), (16, 32, 64, 128, 128), 512, norm=("conv", "fc")),
    "slim_alexnet": alexnet((24, 64, 96, 96, 64), 512, norm=("conv", "fc")),
    "slim_googlenet": googlenet(4, norm=("conv",)),
}
