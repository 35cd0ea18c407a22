"""The trunk of a net: a backbone's layers, from the image to the maps that are scored."""

from typing import get_args

import torch
from torch import Tensor, nn

from fcn.kernels.border import BORDER, Bordered
from fcn.kernels.dense import DenseConvolution
from fcn.models.backbones import BACKBONES, Backbone, Convolution, Inception, Pad, batch_norm
from fcn.models.layers import Dropout, response_norm

PADS: tuple[Pad, ...] = get_args(Pad)


class Trunk(nn.Module):
    """The layers of a backbone; `maps` gives what the score layers see.

    stride            of the finest map that is scored
    inputs            channels
    dropout           fraction dropped after fc6 and fc7; in a net without them, of the coarsest map
    upsampled_larger  whether an upsampled map covers the finer one to which it is added; else it lies inside
    """

    fc7: DenseConvolution

    def __init__(self, backbone: Backbone, stride: int, pad: Pad, inputs: int, dropout: float) -> None:
        super().__init__()
        self.backbone, self.stride, self.same = backbone, stride, pad == "same"
        self.crops = backbone.crops[pad]
        self.upsampled_larger = self.same or not backbone.fc
        self.separate_border = not self.same and backbone.border_apart
        for layer in (layer for block in backbone.blocks for layer in block):
            self._add_layer(layer, inputs)
            inputs = layer.channels
        if backbone.fc:
            self._add("fc", "fc6", DenseConvolution(inputs, backbone.fc, backbone.kernel))
            self._add("fc", "fc7", DenseConvolution(backbone.fc, backbone.fc, 1))
        for name in ("drop6", "drop7") if backbone.fc else ("drop",):
            self.add_module(name, Dropout(dropout))

    @property
    def dropouts(self) -> list[Dropout]:
        return [module for module in self.children() if isinstance(module, Dropout)]

    def _add_layer(self, layer: Convolution | Inception, inputs: int) -> None:
        if isinstance(layer, Inception):
            for branch in layer.branches:
                channels = inputs
                for part in branch:
                    self._add_layer(part, channels)
                    channels = part.channels
            return
        pad = layer.pad if self.same or layer is not self.backbone.blocks[0][0] else BORDER
        pad = 0 if self.separate_border else pad
        convolution = nn.Conv2d(inputs, layer.channels, layer.kernel, layer.stride, pad, groups=layer.groups)
        self._add("conv", layer.name, convolution)

    def _add(self, kind: str, name: str, convolution: nn.Conv2d) -> None:
        # He initialization, used when training from scratch; pretrained weights replace it.
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        self.add_module(name, convolution)
        if kind in self.backbone.norm:
            self.add_module(batch_norm(name), nn.BatchNorm2d(convolution.out_channels))

    def maps(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h        (N, C, H, W), normalized
        returns  the maps of stride 32, 16 and 8
        """
        pools = self._bordered_blocks(h) if self.separate_border else self._blocks(h)
        coarsest = pools[-1]
        if self.backbone.fc:
            before, after = self.backbone.fc6_pad if self.same else (0, 0)
            coarsest = nn.functional.pad(coarsest, (before, after, before, after))
            coarsest = self.dropouts[0](self._relu(coarsest, "fc", "fc6"))
            coarsest = self._relu(coarsest, "fc", "fc7")
        pool3, pool4 = (pools[block] for block in self.backbone.skips)
        return self.dropouts[-1](coarsest), pool4, pool3

    def _blocks(self, h: Tensor) -> list[Tensor]:
        """The result of each block after its pooling."""
        pools: list[Tensor] = []
        lrn = self.backbone.lrn
        for number, block in enumerate(self.backbone.blocks, 1):
            for layer in block:
                h = self._inception(h, layer) if isinstance(layer, Inception) else self._relu(h, "conv", layer.name)
                h = response_norm(h) if layer.name in lrn else h
            if number <= self.backbone.poolings:
                h = self._pool(h)
                h = response_norm(h) if f"pool{number}" in lrn else h
            pools.append(h)
        return pools

    def _bordered_blocks(self, h: Tensor) -> list[Tensor]:
        """As `_blocks`, with the border computed separately (`Bordered`); blocks that are not used later are empty."""
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

    def _inception(self, h: Tensor, layer: Inception) -> Tensor:
        *branches, (projection,) = layer.branches
        results = []
        for branch in branches:
            result = h
            for part in branch:
                result = self._relu(result, "conv", part.name)
            results.append(result)
        pool = nn.functional.max_pool2d if self.backbone.pooling == "max" else nn.functional.avg_pool2d
        results.append(self._relu(pool(h, 3, 1, 1), "conv", projection.name))
        return torch.cat(results, 1)

    def _pool(self, h: Tensor) -> Tensor:
        """With pad same, each side is halved and rounded up; else as in Caffe."""
        pool = nn.functional.max_pool2d if self.backbone.pooling == "max" else nn.functional.avg_pool2d
        size = self.backbone.pool
        pad = (size - 1) // 2 if self.same else 0
        return pool(h, size, 2, pad, ceil_mode=not pad)

    def _relu(self, h: Tensor, kind: str, name: str) -> Tensor:
        h = self.get_submodule(name)(h)
        if kind in self.backbone.norm:
            h = self.get_submodule(batch_norm(name))(h)
        return h.relu_()


def normalized_positions(backbone: str, pad: Pad, height: int, width: int) -> int:
    """Pixels of the smallest feature map that is batch-normalized, for one image; 0 without batch norm."""
    rows, columns = (_normalized_sides(BACKBONES[backbone], pad, side) for side in (height, width))
    return min((a * b for a, b in zip(rows, columns, strict=True)), default=0)


def _normalized_sides(backbone: Backbone, pad: Pad, side: int) -> list[int]:
    """Sides of the batch-normalized maps of an image."""
    same, sides = pad == "same", []
    for number, block in enumerate(backbone.blocks, 1):
        for layer in block:
            zeros = layer.pad if same or layer is not backbone.blocks[0][0] else BORDER
            side = (side + 2 * zeros - layer.kernel) // layer.stride + 1
        if "conv" in backbone.norm:
            sides.append(side)
        if number <= backbone.poolings:
            side = -(-side // 2) if same else -(-(side - backbone.pool) // 2) + 1
    if "fc" in backbone.norm:
        sides.append(side if same else side - backbone.kernel + 1)
    return sides
