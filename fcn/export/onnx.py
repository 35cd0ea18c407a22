"""A trained net as one ONNX file, with preprocessing inside and the weights in the file.

Each input of the net is a uint8 tensor (N, H, W, channels), with the value ranges of the packed split; `image` is RGB.
N, H and W are free. The outputs are

    logits   (N, C, H, W) float32
    classes  (N, H, W) uint8, the class with the highest logit, as in a mask

and for a net with a second score path the same two with the prefix `geometric_`. The file's metadata has class names,
palette, inputs, the params of training and the digest of the model file. Two exports by the same versions of torch and
onnx have the same bytes.

source   docs.pytorch.org/docs/stable/onnx_export.html; onnx.ai/onnx/repo-docs/IR.html
"""

import contextlib
import copy
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fcn.data import depth
from fcn.kernels.border import BORDER
from fcn.kernels.dense import DenseConvolution
from fcn.ladder import GEOMETRIC
from fcn.models import Net
from fcn.models.trunk import Trunk
from fcn.runtime import files
from fcn.runtime.errors import UserError
from fcn.weights import model_file
from fcn.weights.model_file import Meta

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

IMAGE = "image"
AXES = ("batch", "height", "width")
SAMPLE = (2, 96, 80)  # of AXES, in the example batch; torch.export would take a batch of 1 as a constant
LARGEST = (1 << 31) - 1  # bytes of an ONNX file, a limit of protobuf
VALUES = {
    "rgb": "red, green and blue, 0..255",
    "depth": f"0 if unknown, else {depth.STEPS} * (ln(millimetres) - {depth.LOWEST}), rounded and clipped to 1..255",
    "hha": "horizontal disparity, height above the ground and angle with gravity, 0..255",
    "infrared": "intensity, 0..255",
    "bands": "intensity of each band, 0..255",
}


def columns(inputs: Mapping[str, int]) -> dict[str, int]:
    """The channels of each input of the ONNX file, by its name there."""
    return {IMAGE if name == "rgb" else name: channels for name, channels in inputs.items()}


class Exported(nn.Module):
    """What the ONNX file computes."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = plain(net)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """inputs   (N, H, W, channels) uint8 each
        returns  logits and classes of each score path
        """
        logits = self.net(torch.cat(inputs, 3).permute(0, 3, 1, 2))
        paths = torch.split(logits, list(self.net.heads.values()), 1)
        return tuple(output for path in paths for output in (path, path.argmax(1).to(torch.uint8)))


def plain(net: Net) -> Net:
    """A copy of the net whose layers are all convolutions as ONNX has them.

    The zero border that is computed separately (fcn.kernels.border) has cases for small images, which one graph for all
    sizes cannot have: the convolutions pad it. fc6 and fc7 are convolutions, not matrix products (fcn.kernels.dense).
    """
    net = copy.deepcopy(net)
    for trunk in [module for module in net.modules() if isinstance(module, Trunk)]:
        for name, layer in list(trunk.named_children()):
            if isinstance(layer, DenseConvolution):
                convolution = nn.Conv2d(1, 1, 1)
                convolution.weight, convolution.bias = layer.weight, layer.bias
                setattr(trunk, name, convolution)
        if trunk.separate_border:
            trunk.separate_border = False
            names = [layer.name for block in trunk.backbone.blocks for layer in block]
            for name, pad in zip(names, [BORDER, *[1] * (len(names) - 1)], strict=True):
                trunk.get_submodule(name).padding = (pad, pad)  # type: ignore[assignment]
    return net


def export(path: Path) -> "tuple[ModelProto, Net, Meta]":
    """The ONNX model of a model file; also its net, on the CPU in fp32, and its metadata.

    raises   UserError if the file is missing, damaged, has no classes, or is too large for one ONNX file
    """
    net, meta = model_file.build(path)
    if meta.labels is None or (len(net.heads) > 1 and meta.geometric is None):
        raise UserError(f"{path} holds no class names; use a model file made by `dvc repro`")
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} has more than {LARGEST >> 20} MiB, which no ONNX file can hold")
    model = _traced(net)
    _set_metadata(model, _facts(net, meta, files.sha256(path)))
    return model, net, meta


def _traced(net: Net) -> "ModelProto":
    channels = columns(net.inputs)
    sample = tuple(torch.zeros(*SAMPLE, count, dtype=torch.uint8) for count in channels.values())
    free = dict.fromkeys(range(len(AXES)), torch.export.Dim.DYNAMIC)
    names = [prefix + name for prefix in ("", GEOMETRIC)[: len(net.heads)] for name in ("logits", "classes")]
    with _quiet():
        program = torch.onnx.export(
            Exported(net).eval(),
            sample,
            dynamo=True,
            dynamic_shapes=(tuple(free for _ in sample),),
            input_names=list(channels),
            output_names=names,
            verbose=False,
        )
    assert program is not None
    model: ModelProto = program.model_proto
    _clean(model)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings and progress, which are about its own code."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _clean(model: "ModelProto") -> None:
    """Names the free axes and leaves out what the exporter notes about the source, such as paths of this machine."""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        free = (0, 2, 3) if len(dims) == 4 and value.name.endswith("logits") else (0, 1, 2)
        for axis, name in zip(free, AXES, strict=True):
            dims[axis].dim_param = name
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _facts(net: Net, meta: Meta, sha256: str) -> dict[str, Any]:
    """Metadata of the ONNX file; values other than text are written as JSON."""
    assert meta.labels is not None
    facts: dict[str, Any] = {
        "inputs": {name: {"channels": count, "values": VALUES[kind]} for (name, count), kind in _kinds(net)},
        "resized": str(meta.scale) if meta.scale else "",
    }
    for prefix, labels in (("", meta.labels), (GEOMETRIC, meta.geometric)):
        if labels:
            facts |= {f"{prefix}names": labels.names, f"{prefix}palette": labels.palette}
    return facts | {"architecture": meta.architecture, "params": meta.params, "model_sha256": sha256}


def _kinds(net: Net) -> Iterator[tuple[tuple[str, int], str]]:
    return zip(columns(net.inputs).items(), net.inputs, strict=True)


def _set_metadata(model: "ModelProto", facts: Mapping[str, Any]) -> None:
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=f"fcn.{key}", value=text)


@dataclass
class Difference:
    """How far an ONNX file, run by onnxruntime, is from its net in torch, over all images compared.

    logits   largest absolute difference
    largest  absolute value of the largest logit
    pixels   number of pixels compared, once for each score path
    other    number of them with another class
    """

    logits: float = 0.0
    largest: float = 0.0
    pixels: int = 0
    other: int = 0

    def add(self, net: Net, session: "InferenceSession", size: tuple[int, int, int], seed: int) -> None:
        """Compares on random images; `size` is that of AXES."""
        generator = np.random.default_rng(seed)
        shapes = {name: (*size, channels) for name, channels in columns(net.inputs).items()}
        inputs = {name: generator.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()}
        outputs = [np.asarray(output) for output in session.run(None, inputs)]
        with torch.no_grad():
            expected = net(torch.from_numpy(np.concatenate([*inputs.values()], 3)).permute(0, 3, 1, 2))
        for logits, classes, path in zip(
            outputs[::2], outputs[1::2], torch.split(expected, list(net.heads.values()), 1), strict=True
        ):
            self.logits = max(self.logits, float(np.abs(logits - path.numpy()).max()))
            self.largest = max(self.largest, float(path.abs().max()))
            self.pixels += classes.size
            self.other += int(np.count_nonzero(classes != path.argmax(1).numpy()))


def session(file: Path) -> "InferenceSession":
    """The ONNX file in onnxruntime, on the CPU."""
    from onnxruntime import InferenceSession

    return InferenceSession(file, providers=["CPUExecutionProvider"])
