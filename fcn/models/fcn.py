"""FCN-32s, FCN-16s and FCN-8s as one class; each finer stride adds one skip connection.

source   paper fig. 3; layer names, padding and crops of the Caffe reference
"""

from collections.abc import Mapping
from typing import get_args

import torch
from torch import Tensor, nn

from fcn.kernels.border import BORDER, Bordered
from fcn.kernels.dense import DenseConvolution
from fcn.ladder import STRIDES
from fcn.models.backbones import BACKBONES, Backbone, Pad
from fcn.models.layers import CAFFE, Dropout, FixedUpsampling, LearnedUpsampling, Preprocessing, response_norm

State = dict[str, Tensor]  # weights by name, as in a state dict


UPSAMPLINGS = ("fixed", "inner", "learned")
PADS: tuple[Pad, ...] = get_args(Pad)


def normalized_positions(backbone: str, pad: Pad, height: int, width: int) -> int:
    """Pixels of the smallest feature map that is batch-normalized, for one image; 0 without batch norm.

    Pooling with ceil_mode halves a side and rounds up, so five poolings divide it by 32 and round up.
    """
    norm, border = (
        BACKBONES[backbone].norm,
        0 if pad == "same" else 2 * BORDER - 2,
    )  # less 2: conv1_1
    if not norm:
        return 0
    # All nets with batch norm are VGGs. The smallest map is that of fc6 (7×7, without padding if pad is 100), or of
    # conv5 if fc6 has no batch norm.
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
    inputs         channels of each input, by name, in the order of the image's channels; None: RGB
    geometric      classes of a second score path from the same trunk, as for SIFT Flow's geometric labels; 0: none.
                   The names of score and upsampling layers then end in _sem for the first path, _geo for the second

    Layers have the names of the Caffe reference, so that published weights load strictly.
    """

    fc7: DenseConvolution

    def __init__(
        self,
        num_classes: int,
        stride: int,
        backbone: str = "vgg16",
        *,
        preprocessing: Preprocessing = CAFFE,
        at_once: bool = False,
        pad: Pad = 100,
        upsampling: str = "fixed",
        dropout: float = 0.5,
        inputs: Mapping[str, int] | None = None,
        geometric: int = 0,
    ) -> None:
        super().__init__()
        if stride not in STRIDES or pad not in PADS or backbone not in BACKBONES or upsampling not in UPSAMPLINGS:
            raise ValueError(
                f"no FCN of stride {stride}, backbone {backbone!r}, pad {pad!r} and upsampling {upsampling!r}"
            )
        if at_once and stride != 8:
            raise ValueError("only FCN-8s is trained at once")
        self.stride, self.preprocessing, self.at_once = stride, preprocessing, at_once
        self.backbone, self.same = BACKBONES[backbone], pad == "same"
        self.crops = self.backbone.crops[pad]
        self.separate_border = not self.same and self.backbone.border_apart
        self.inputs = dict(inputs or {"rgb": 3})
        widths = self._build_trunk(self.backbone, sum(self.inputs.values()))
        self.drop6, self.drop7 = Dropout(dropout), Dropout(dropout)
        self.heads = {"_sem": num_classes, "_geo": geometric} if geometric else {"": num_classes}
        pool3, pool4 = (widths[block] for block in self.backbone.skips)
        for suffix, classes in self.heads.items():
            self._build_scores(suffix, classes, pool3, pool4, upsampling)

    @property
    def dropouts(self) -> list[Dropout]:
        return [self.drop6, self.drop7]

    def trunks(self) -> "list[tuple[str, FCN]]":
        """The net itself and the prefix of its weights; a late fusion has several."""
        return [("", self)]

    def _build_scores(self, suffix: str, classes: int, pool3: int, pool4: int, upsampling: str) -> None:
        """Adds the layers from fc7 to the logits of `classes` classes; `pool3` and `pool4` are channels."""
        upsample = FixedUpsampling if upsampling == "fixed" else LearnedUpsampling
        upsample_last = LearnedUpsampling if upsampling == "learned" else FixedUpsampling
        kernel = {factor: 2 * factor - self.backbone.expansion for factor in (2, *STRIDES)}
        layers: dict[str, nn.Module] = {"score_fr": nn.Conv2d(self.backbone.fc, classes, 1)}
        if self.stride == 32:
            layers["upscore"] = upsample_last(classes, 32, kernel[32])
        else:
            layers["score_pool4"] = nn.Conv2d(pool4, classes, 1)
            layers["upscore2"] = upsample(classes, 2, kernel[2])
        if self.stride == 16:
            layers["upscore16"] = upsample_last(classes, 16, kernel[16])
        if self.stride == 8:
            layers["score_pool3"] = nn.Conv2d(pool3, classes, 1)
            layers["upscore_pool4"] = upsample(classes, 2, kernel[2])
            layers["upscore8"] = upsample_last(classes, 8, kernel[8])
        for name, layer in layers.items():
            self.add_module(name + suffix, layer)

    def _build_trunk(self, backbone: Backbone, inputs: int) -> list[int]:
        """Adds the layers up to fc7, for `inputs` channels; returns the output channels of each block."""
        widths = []
        for block in backbone.blocks:
            for layer in block:
                pad = layer.pad if self.same or layer is not backbone.blocks[0][0] else BORDER
                pad = 0 if self.separate_border else pad
                convolution = nn.Conv2d(inputs, layer.channels, layer.kernel, layer.stride, pad, groups=layer.groups)
                self._add("conv", layer.name, convolution)
                inputs = layer.channels
            widths.append(inputs)
        self._add("fc", "fc6", DenseConvolution(inputs, backbone.fc, backbone.kernel))
        self._add("fc", "fc7", DenseConvolution(backbone.fc, backbone.fc, 1))
        return widths

    def _add(self, kind: str, name: str, convolution: nn.Conv2d) -> None:
        # He initialization, used when training from scratch; pretrained weights replace it.
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        self.add_module(name, convolution)
        if kind in self.backbone.norm:
            self.add_module(name.replace(kind, "bn"), nn.BatchNorm2d(convolution.out_channels))

    def forward(self, image: Tensor) -> Tensor:
        """image    (N, channels of all inputs, H, W), 0..255, uint8 or float; any H, W ≥ 1
        returns  (N, C, H, W) logits; with a second score path (N, C + geometric, H, W)
        """
        size = (image.shape[2], image.shape[3])
        h = self.preprocessing(image, self.fc7.weight.dtype)
        h = h.contiguous(memory_format=torch.channels_last)
        pools = self._bordered_trunk(h) if self.separate_border else self._trunk(h)
        before, after = self.backbone.fc6_pad if self.same else (0, 0)
        h = nn.functional.pad(pools[-1], (before, after, before, after))
        h = self.drop6(self._relu(h, "fc", "fc6"))
        h = self.drop7(self._relu(h, "fc", "fc7"))
        pool3, pool4 = (pools[block] for block in self.backbone.skips)
        logits = [self._scores(suffix, h, pool4, pool3, size) for suffix in self.heads]
        return logits[0] if len(logits) == 1 else torch.cat(logits, 1)

    def _scores(self, suffix: str, fc7: Tensor, pool4: Tensor, pool3: Tensor, size: tuple[int, int]) -> Tensor:
        """The logits of one score path, (N, C, *size)."""
        layers: dict[str, nn.Module] = {
            name.removesuffix(suffix): layer for name, layer in self.named_children() if name.endswith(suffix)
        }
        logits: Tensor = layers["score_fr"](fc7)
        if self.stride == 32:
            logits = layers["upscore"](logits, self.crops[32], size)
            return logits
        logits = self._fuse(logits, layers["upscore2"], layers["score_pool4"], pool4, 0.01, "pool4")
        if self.stride == 16:
            logits = layers["upscore16"](logits, self.crops[16], size)
            return logits
        logits = self._fuse(logits, layers["upscore_pool4"], layers["score_pool3"], pool3, 0.0001, "pool3")
        logits = layers["upscore8"](logits, self.crops[8], size)
        return logits

    def _trunk(self, h: Tensor) -> list[Tensor]:
        """The result of each block after its pooling."""
        pools: list[Tensor] = []
        for block in self.backbone.blocks:
            for layer in block:
                h = self._relu(h, "conv", layer.name)
            h = self._pool(h)
            if self.backbone.lrn and len(pools) < 2:
                h = response_norm(h)
            pools.append(h)
        return pools

    def _bordered_trunk(self, h: Tensor) -> list[Tensor]:
        """As `_trunk`, with the border computed separately (`Bordered`); blocks that are not used later are empty."""
        layers: dict[str, nn.Conv2d] = dict(self.named_children())  # type: ignore[arg-type]
        pools = []
        bordered = Bordered.begin(layers["conv1_1"], h)
        for number, block in enumerate(self.backbone.blocks, 1):
            for layer in block[number == 1 :]:
                bordered = bordered.convolved(layers[layer.name])
            bordered = bordered.pooled(self._pool)
            # From pool3 for stride 8, from pool4 for stride 16, pool5 for stride 32.
            pools.append(bordered.whole() if 2**number >= self.stride else h.new_empty(0))
        return pools

    def _pool(self, h: Tensor) -> Tensor:
        pool = nn.functional.max_pool2d if self.backbone.pooling == "max" else nn.functional.avg_pool2d
        size = self.backbone.pool
        return pool(h, size, 2, (size - 1) // 2 if self.same else 0, ceil_mode=True)

    def _relu(self, h: Tensor, kind: str, name: str) -> Tensor:
        h = self.get_submodule(name)(h)
        if kind in self.backbone.norm:
            h = self.get_submodule(name.replace(kind, "bn"))(h)
        return h.relu_()

    def _fuse(
        self, score: Tensor, upsample: nn.Module, score_skip: nn.Module, pool: Tensor, scale: float, name: str
    ) -> Tensor:
        """Upsamples the coarse scores by 2 and adds the scores of a finer pooling layer where the two maps overlap."""
        crop = self.crops[name]
        if self.same:
            coarse = upsample(score, crop, (pool.shape[2], pool.shape[3]))
        else:  # the border of 100 pixels makes the finer map the larger one
            height, width = (2 * side + 2 - self.backbone.expansion for side in score.shape[2:])
            coarse = upsample(score, 0, (height, width))
            pool = pool[:, :, crop : crop + height, crop : crop + width]
        return torch.add(coarse, score_skip(pool * scale if self.at_once else pool))
