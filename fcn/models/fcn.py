"""FCN-32s, FCN-16s and FCN-8s as one class; each finer stride adds one skip connection.

source   paper fig. 3; layer names, padding and crops of the Caffe reference
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fcn.ladder import STRIDES
from fcn.models.backbones import BACKBONES, Pad
from fcn.models.layers import CAFFE, FixedUpsampling, LearnedUpsampling, Preprocessing
from fcn.models.trunk import PADS, Trunk

State = dict[str, Tensor]  # weights by name, as in a state dict


UPSAMPLINGS = ("fixed", "inner", "learned")


class FCN(Trunk):
    """Fully convolutional network: scores of every class at every pixel.

    num_classes    C
    stride         32, 16 or 8 pixels
    backbone       a name in BACKBONES
    preprocessing  what the weights were trained with; not in the state dict
    at_once        FCN-8s trained from the backbone in one stage (FCN-8s at-once): pool4 and pool3 are scaled down first
    pad            100 pixels around the image, as in the reference, or "same" padding
    upsampling     "fixed": bilinear; "inner": all but the last layer learned, initialized as bilinear (CVPR paper);
                   "learned": all layers learned
    dropout        fraction dropped after fc6 and fc7; in a net without them, before score_fr
    inputs         channels of each input, by name, in the order of the image's channels; None: RGB
    geometric      classes of a second score path from the same trunk, as for SIFT Flow's geometric labels; 0: none.
                   The names of score and upsampling layers then end in _sem for the first path, _geo for the second

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
        pad: Pad = 100,
        upsampling: str = "fixed",
        dropout: float = 0.5,
        inputs: Mapping[str, int] | None = None,
        geometric: int = 0,
    ) -> None:
        if stride not in STRIDES or pad not in PADS or backbone not in BACKBONES or upsampling not in UPSAMPLINGS:
            raise ValueError(
                f"no FCN of stride {stride}, backbone {backbone!r}, pad {pad!r} and upsampling {upsampling!r}"
            )
        if at_once and stride != 8:
            raise ValueError("only FCN-8s is trained at once")
        self.inputs = dict(inputs or {"rgb": 3})
        super().__init__(BACKBONES[backbone], stride, pad, sum(self.inputs.values()), dropout)
        self.preprocessing, self.at_once = preprocessing, at_once
        self.heads = {"_sem": num_classes, "_geo": geometric} if geometric else {"": num_classes}
        for suffix, classes in self.heads.items():
            self._build_scores(suffix, classes, upsampling)

    def trunks(self) -> "list[tuple[str, FCN]]":
        """The net itself and the prefix of its weights; a late fusion has several."""
        return [("", self)]

    def _build_scores(self, suffix: str, classes: int, upsampling: str) -> None:
        """Adds the layers from the maps to the logits of `classes` classes."""
        pool3, pool4 = (self.backbone.blocks[block][-1].channels for block in self.backbone.skips)
        upsample = FixedUpsampling if upsampling == "fixed" else LearnedUpsampling
        upsample_last = LearnedUpsampling if upsampling == "learned" else FixedUpsampling
        kernel = {factor: 2 * factor - self.backbone.expansion for factor in (2, *STRIDES)}
        layers: dict[str, nn.Module] = {"score_fr": nn.Conv2d(self.backbone.width, classes, 1)}
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

    def forward(self, image: Tensor) -> Tensor:
        """image    (N, channels of all inputs, H, W), 0..255, uint8 or float; any H, W ≥ 1
        returns  (N, C, H, W) logits; with a second score path (N, C + geometric, H, W)
        """
        size = (image.shape[2], image.shape[3])
        h = self.preprocessing(image, next(self.parameters()).dtype)
        maps = self.maps(h.contiguous(memory_format=torch.channels_last))
        logits = [self._scores(suffix, *maps, size) for suffix in self.heads]
        return logits[0] if len(logits) == 1 else torch.cat(logits, 1)

    def _scores(self, suffix: str, coarsest: Tensor, pool4: Tensor, pool3: Tensor, size: tuple[int, int]) -> Tensor:
        """The logits of one score path, (N, C, *size)."""
        layers: dict[str, nn.Module] = {
            name.removesuffix(suffix): layer for name, layer in self.named_children() if name.endswith(suffix)
        }
        logits: Tensor = layers["score_fr"](coarsest)
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

    def _fuse(
        self, score: Tensor, upsample: nn.Module, score_skip: nn.Module, pool: Tensor, scale: float, name: str
    ) -> Tensor:
        """Upsamples the coarse scores by 2 and adds the scores of a finer pooling layer where the two maps overlap."""
        crop = self.crops[name]
        if self.upsampled_larger:
            coarse = upsample(score, crop, (pool.shape[2], pool.shape[3]))
        else:  # the border of 100 pixels makes the finer map the larger one
            height, width = (2 * side + 2 - self.backbone.expansion for side in score.shape[2:])
            coarse = upsample(score, 0, (height, width))
            pool = pool[:, :, crop : crop + height, crop : crop + width]
        return torch.add(coarse, score_skip(pool * scale if self.at_once else pool))
