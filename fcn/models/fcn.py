"""FCN-32s, FCN-16s and FCN-8s as one class; each finer stride adds one skip connection.

source   paper fig. 3; layer names, padding and crops of the Caffe reference
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fcn.kernels.border import BORDER, Bordered
from fcn.kernels.dense import DenseConvolution
from fcn.ladder import STRIDES
from fcn.models.layers import CAFFE, Dropout, FixedUpsampling, LearnedUpsampling, Preprocessing

State = dict[str, Tensor]  # weights by name, as in a state dict


@dataclass(frozen=True)
class Backbone:
    """A VGG net: five blocks of 3×3 convolutions, each followed by pooling, then fc6 and fc7 as convolutions.

    convolutions   per block
    channels       output channels of each block
    fc             output channels of fc6 and fc7
    norm           kinds of layers followed by batch norm: conv, fc
    pooling        max or avg
    """

    convolutions: tuple[int, ...]
    channels: tuple[int, ...]
    fc: int
    norm: tuple[str, ...] = ()
    pooling: Literal["max", "avg"] = "max"


WIDE = (64, 128, 256, 512, 512)
BACKBONES = {
    "vgg16": Backbone((2, 2, 3, 3, 3), WIDE, 4096),
    "vgg16_bn": Backbone((2, 2, 3, 3, 3), WIDE, 4096, norm=("conv",)),
    "vgg19": Backbone((2, 2, 4, 4, 4), WIDE, 4096),
    # Up to conv5_3, with average pooling: FCN.tensorflow's net for MIT Scene Parsing.
    "vgg19_avg": Backbone((2, 2, 4, 4, 3), WIDE, 4096, pooling="avg"),
    "slim": Backbone((2, 2, 3, 3, 3), (16, 32, 64, 128, 128), 512, norm=("conv", "fc")),
}

UPSAMPLINGS = ("fixed", "inner", "learned")

# Crop offsets in pixels: first row and column kept of the pool4 and pool3 scores, and of the final upsampling at
# each stride. With pad 100 the finer map is cropped, as in the reference. With pad same the upsampled map is
# cropped, by half of what a kernel of twice the stride adds.
CROPS = {
    BORDER: {"pool4": 5, "pool3": 9, 32: 19, 16: 27, 8: 31},
    "same": {"pool4": 1, "pool3": 1, 32: 16, 16: 8, 8: 4},
}


def normalized_positions(backbone: str, pad: int | Literal["same"], height: int, width: int) -> int:
    """Pixels of the smallest feature map that is batch-normalized, for one image; 0 without batch norm.

    Pooling with ceil_mode halves a side and rounds up, so five poolings divide it by 32 and round up.
    """
    norm, border = (
        BACKBONES[backbone].norm,
        0 if pad == "same" else 2 * BORDER - 2,
    )  # less 2: conv1_1
    if not norm:
        return 0
    # The smallest map is that of fc6 (7×7, without padding if pad is 100), or of conv5 if fc6 has no batch norm.
    factor, less = (32, 0 if pad == "same" else 6) if "fc" in norm else (16, 0)
    rows, columns = (-(-(side + border) // factor) - less for side in (height, width))
    return rows * columns


class FCN(nn.Module):
    """Fully convolutional network: scores of every class at every pixel.

    num_classes    C
    stride         32, 16 or 8 pixels
    backbone       a name in BACKBONES
    preprocessing  what the weights were trained with; not in the state dict
    at_once        FCN-8s trained from the backbone in one stage (FCN-8s at-once): pool4 and pool3 are scaled down first
    pad            100 pixels around the image, as in the reference, or "same" padding
    upsampling     "fixed": bilinear; "inner": all but the last layer learned, initialized as bilinear (CVPR paper);
                   "learned": all layers learned
    dropout        fraction dropped after fc6 and fc7

    Layers have the names of the Caffe reference, so that published weights load strictly.
    """

    def __init__(
        self,
        num_classes: int,
        stride: int,
        backbone: str = "vgg16",
        *,
        preprocessing: Preprocessing = CAFFE,
        at_once: bool = False,
        pad: int | Literal["same"] = 100,
        upsampling: str = "fixed",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if stride not in STRIDES or pad not in CROPS or backbone not in BACKBONES or upsampling not in UPSAMPLINGS:
            raise ValueError(
                f"no FCN of stride {stride}, backbone {backbone!r}, pad {pad!r} and upsampling {upsampling!r}"
            )
        if at_once and stride != 8:
            raise ValueError("only FCN-8s is trained at once")
        self.stride, self.preprocessing, self.at_once = stride, preprocessing, at_once
        self.backbone, self.crops, self.same = BACKBONES[backbone], CROPS[pad], pad == "same"
        # Compute the border separately, except with batch norm, whose statistics include every pixel of the border.
        self.separate_border = not self.same and not self.backbone.norm
        channels = self._build_trunk(self.backbone)
        self.drop6, self.drop7 = Dropout(dropout), Dropout(dropout)
        upsample = FixedUpsampling if upsampling == "fixed" else LearnedUpsampling
        upsample_last = LearnedUpsampling if upsampling == "learned" else FixedUpsampling
        self.score_fr = nn.Conv2d(self.backbone.fc, num_classes, 1)
        if stride == 32:
            self.upscore = upsample_last(num_classes, 32)
        else:
            self.score_pool4 = nn.Conv2d(channels[3], num_classes, 1)
            self.upscore2 = upsample(num_classes, 2)
        if stride == 16:
            self.upscore16 = upsample_last(num_classes, 16)
        if stride == 8:
            self.score_pool3 = nn.Conv2d(channels[2], num_classes, 1)
            self.upscore_pool4 = upsample(num_classes, 2)
            self.upscore8 = upsample_last(num_classes, 8)

    def _build_trunk(self, backbone: Backbone) -> tuple[int, ...]:
        inputs, pad = 3, 1 if self.same else BORDER
        for block, (count, channels) in enumerate(zip(backbone.convolutions, backbone.channels, strict=True), 1):
            for i in range(1, count + 1):
                convolution = nn.Conv2d(inputs, channels, 3, padding=0 if self.separate_border else pad)
                self._add("conv", f"{block}_{i}", convolution)
                inputs, pad = channels, 1
        self._add("fc", "6", DenseConvolution(inputs, backbone.fc, 7, padding=3 if self.same else 0))
        self._add("fc", "7", DenseConvolution(backbone.fc, backbone.fc, 1))
        return backbone.channels

    def _add(self, kind: str, name: str, convolution: nn.Conv2d) -> None:
        # He initialization, used when training from scratch; pretrained weights replace it.
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        self.add_module(kind + name, convolution)
        if kind in self.backbone.norm:
            self.add_module("bn" + name, nn.BatchNorm2d(convolution.out_channels))

    def forward(self, image: Tensor) -> Tensor:
        """image    (N, 3, H, W) RGB, 0..255, uint8 or float; any H, W ≥ 1
        returns  (N, C, H, W) logits
        """
        size = (image.shape[2], image.shape[3])
        h = self.preprocessing(image, self.score_fr.weight.dtype)
        h = h.contiguous(memory_format=torch.channels_last)
        pools = self._bordered_trunk(h) if self.separate_border else self._trunk(h)
        h = self.drop6(self._relu(pools[5], "fc", "6"))
        h = self.drop7(self._relu(h, "fc", "7"))
        logits: Tensor = self.score_fr(h)
        if self.stride == 32:
            logits = self.upscore(logits, self.crops[32], size)
            return logits
        logits = self._fuse(logits, self.upscore2, self.score_pool4, pools[4], 0.01, "pool4")
        if self.stride == 16:
            logits = self.upscore16(logits, self.crops[16], size)
            return logits
        logits = self._fuse(logits, self.upscore_pool4, self.score_pool3, pools[3], 0.0001, "pool3")
        logits = self.upscore8(logits, self.crops[8], size)
        return logits

    def _trunk(self, h: Tensor) -> dict[int, Tensor]:
        """The pooling output of each block, by block number 1..5."""
        pools = {}
        for block, count in enumerate(self.backbone.convolutions, 1):
            for i in range(1, count + 1):
                h = self._relu(h, "conv", f"{block}_{i}")
            pools[block] = h = self._pool(h)
        return pools

    def _bordered_trunk(self, h: Tensor) -> dict[int, Tensor]:
        """As `_trunk`, with the border computed separately (`Bordered`); only the blocks that are used later."""
        layers: dict[str, nn.Conv2d] = dict(self.named_children())  # type: ignore[arg-type]
        pools = {}
        bordered = Bordered.begin(layers["conv1_1"], h)
        for block, count in enumerate(self.backbone.convolutions, 1):
            for i in range(1 + (block == 1), count + 1):
                bordered = bordered.convolved(layers[f"conv{block}_{i}"])
            bordered = bordered.pooled(self._pool)
            if 2**block >= self.stride:  # from pool3 for stride 8, from pool4 for stride 16, pool5 for stride 32
                pools[block] = bordered.whole()
        return pools

    def _pool(self, h: Tensor) -> Tensor:
        pool = nn.functional.max_pool2d if self.backbone.pooling == "max" else nn.functional.avg_pool2d
        return pool(h, 2, 2, ceil_mode=True)

    def _relu(self, h: Tensor, kind: str, name: str) -> Tensor:
        h = self.get_submodule(kind + name)(h)
        if kind in self.backbone.norm:
            h = self.get_submodule("bn" + name)(h)
        return h.relu_()

    def _fuse(
        self, score: Tensor, upsample: nn.Module, score_skip: nn.Module, pool: Tensor, scale: float, name: str
    ) -> Tensor:
        """Upsamples the coarse scores by 2 and adds the scores of a finer pooling layer where the two maps overlap."""
        crop = self.crops[name]
        if self.same:
            coarse = upsample(score, crop, (pool.shape[2], pool.shape[3]))
        else:  # the border of 100 pixels makes the finer map the larger one
            height, width = 2 * score.shape[2] + 2, 2 * score.shape[3] + 2
            coarse = upsample(score, 0, (height, width))
            pool = pool[:, :, crop : crop + height, crop : crop + width]
        return torch.add(coarse, score_skip(pool * scale if self.at_once else pool))
