"""Model files: weights in safetensors, with one JSON string of metadata."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError

from fcn import models
from fcn.data.labels import MAX_CLASSES, Labels
from fcn.data.scale import Scale
from fcn.data.split import MAX_CHANNELS
from fcn.ladder import STRIDES
from fcn.models import Net, State
from fcn.models.backbones import BACKBONES
from fcn.models.fcn import UPSAMPLINGS
from fcn.models.layers import Preprocessing
from fcn.models.trunk import PADS
from fcn.params import INPUTS
from fcn.runtime import files
from fcn.runtime.errors import UserError, in_one_line

MAX_METADATA = 1 << 20  # bytes of a model file's metadata
MAX_REASON = 300  # characters of the reason why a file is rejected
CHOICES: dict[
    str, tuple[Any, ...]
] = {  # allowed values of a net's arguments; dropout and inputs are checked separately
    "num_classes": tuple(range(1, MAX_CLASSES + 1)),
    "geometric": tuple(range(1, MAX_CLASSES + 1)),
    "fusion": ("early", "late"),
    "stride": STRIDES,
    "backbone": tuple(BACKBONES),
    "at_once": (False, True),
    "pad": PADS,
    "upsampling": UPSAMPLINGS,
}


def _architecture(arguments: dict[str, Any]) -> dict[str, Any]:
    inputs = arguments.get("inputs")
    if isinstance(inputs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in inputs):
        arguments = arguments | {"inputs": {str(name): channels for name, channels in inputs}}
    for name, value in arguments.items():
        if name == "dropout":
            valid = type(value) in (int, float) and 0 <= value < 1
        elif name == "inputs":
            valid = isinstance(value, dict) and 0 < len(value) <= len(INPUTS) and value.keys() <= set(INPUTS)
            valid = valid and all(type(count) is int and 0 < count <= MAX_CHANNELS for count in value.values())
        else:
            valid = any(value == choice and type(value) is type(choice) for choice in CHOICES.get(name, ()))
        if not valid:
            raise ValueError(f"{name} is {value!r}")
    return arguments


def _labels(labels: Labels | None) -> Labels | None:
    if labels is None:
        return None
    if reason := labels.problem():
        raise ValueError(reason)
    return Labels(labels.names, labels.palette)


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Step = Annotated[str, Field(pattern="^[1-9][0-9]{0,8}$")]
NAME = "^[A-Za-z0-9_+-]{1,100}$"
Name = Annotated[str, Field(pattern=NAME)]


@dataclass(frozen=True)
class Published:
    """The published weights that a model file was initialized from.

    name     of the published net or backbone; several are joined by +
    sha256   of the file that was used; empty in model files of earlier versions, which recorded only the name.
             Of several files: of their digests, joined by +
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Name
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""


def joined(origins: Sequence[Published]) -> Published:
    """The published files from which one net was initialized, as one."""
    if len(origins) == 1:
        return origins[0]
    name, digests = ("+".join(getattr(each, key) for each in origins) for key in ("name", "sha256"))
    return Published(name, hashlib.sha256(digests.encode()).hexdigest())


def _published(value: object) -> object:
    """Model files of earlier versions store the name alone."""
    return Published(value) if isinstance(value, str) and re.fullmatch(NAME, value) else value


@dataclass(frozen=True)
class Meta:
    """Metadata of a model file. Nothing in it varies between two runs of the same experiment.

    architecture   arguments of FCN, or only the name of the backbone
    labels         class names and colours
    geometric      those of the second score path, or None
    parent         sha256 of the model file it was initialized from, or None
    published      the published net or backbone it was initialized from, or None
    iterations     optimizer steps of this net; 0 for surgery only
    threads        CPU threads used for training: another number of threads rounds sums differently
    params         the params declared by its stage
    processes      number of training processes
    digests        sha256 of the weights after some of the steps, by step number
    scale          how images were resized for its scores; None: not resized
    sha256         of this metadata and the weights, set by `save`; None in files of earlier versions
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # unknown keys in a model file are an error

    architecture: Annotated[dict[str, Any], AfterValidator(_architecture)]
    preprocessing: Preprocessing
    labels: Annotated[Labels | None, AfterValidator(_labels)]
    parent: Sha256 | None
    published: Annotated[Published | None, BeforeValidator(_published)]
    iterations: Annotated[int, Field(ge=0, le=10**12)]
    threads: Annotated[int, Field(ge=1, le=1 << 20)]
    params: dict[str, Any]
    processes: Annotated[int, Field(ge=1, le=1 << 20)] = 1
    digests: dict[Step, Sha256] = field(default_factory=dict)
    scale: Scale | None = None
    geometric: Annotated[Labels | None, AfterValidator(_labels)] = None
    sha256: Sha256 | None = field(default=None, compare=False)

    @property
    def scored(self) -> bool:
        """Whether the net has scores: it was trained, or its weights are published ones."""
        return self.iterations > 0 or self.published is not None


def save(path: Path, state: State, meta: Meta) -> None:
    """Writes a model file atomically.

    The metadata is one JSON string under one key, because safetensors does not keep the order of several keys.
    """
    facts = _schema().dump_python(meta)
    if inputs := meta.architecture.get("inputs"):  # as pairs: the keys of JSON are sorted, and the order matters
        facts["architecture"] = meta.architecture | {"inputs": [list(pair) for pair in inputs.items()]}
    if meta.labels:  # raw mask codes are not needed to use a net
        facts["labels"] = {"names": meta.labels.names, "palette": meta.labels.palette}
    if meta.geometric:
        facts["geometric"] = {"names": meta.geometric.names, "palette": meta.geometric.palette}
    else:
        del facts["geometric"]
    files.write_tensors(path, state, "fcn", facts | {"sha256": _sha256(state, facts)})


def load(path: Path) -> tuple[State, Meta]:
    """Reads weights and metadata of a model file.

    raises   UserError if it is missing, damaged, or was not written by this project
    """
    text, meta = _facts(path)
    try:
        state = files.read_tensors(path)
        actual = _sha256(state, json.loads(text))
    except (SafetensorError, TypeError, ValueError, RuntimeError) as error:
        raise _refusal(path, in_one_line(error)) from None
    if meta.sha256 not in (None, actual):
        raise UserError(
            f"{path} is damaged: its content does not match its sha256; "
            "run `fcn doctor` to check DVC's copy, then delete the file and run `dvc checkout`"
        )
    return state, meta


def facts(path: Path) -> Meta:
    """Reads only the metadata of a model file.

    raises   UserError as `load`
    """
    return _facts(path)[1]


def _facts(path: Path) -> tuple[str, Meta]:
    """The metadata as JSON text and parsed."""
    if not path.is_file():
        raise UserError(f"{path} is missing; run `dvc checkout`, or `dvc repro` if it was never made")
    try:
        text = files.read_metadata(path, "fcn")
        if len(text) > MAX_METADATA:
            raise ValueError(f"{len(text)} bytes of metadata")
        meta = _schema().validate_json(text, strict=True)
        for labels, argument in (meta.labels, "num_classes"), (meta.geometric, "geometric"):
            if labels and meta.architecture.get(argument, len(labels.names)) != len(labels.names):
                raise ValueError(f"{meta.architecture[argument]} scores for {len(labels.names)} classes")
    except ValidationError as error:
        first = error.errors()[0]
        raise _refusal(path, in_one_line(ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))) from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _refusal(path, in_one_line(error)) from None
    return text, meta


@cache
def _schema() -> TypeAdapter[Meta]:
    return TypeAdapter(Meta)


def _refusal(path: Path, reason: str) -> UserError:
    short = reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}…"
    return UserError(f"{path} is not a model file of this project ({short})")


def _sha256(state: State, facts: Mapping[str, Any]) -> str:
    """Digest of metadata and weights, leaving out the sha256 field itself."""
    metadata = {key: value for key, value in facts.items() if key != "sha256"}
    shapes = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in state.items()}
    return hashlib.sha256(json.dumps([metadata, shapes, digest(state)], sort_keys=True).encode()).hexdigest()


def build(path: Path) -> tuple[Net, Meta]:
    """Loads the net of a model file, in evaluation mode and fp32."""
    state, meta = load(path)
    if "stride" not in meta.architecture:
        raise UserError(f"{path} holds a backbone, not a net")
    try:
        with torch.device("meta"):  # allocates no memory for tensors that the file may not contain
            net = models.build(**meta.architecture, preprocessing=meta.preprocessing)
        for name, tensor in net.state_dict().items():
            if name in state and state[name].is_floating_point() != tensor.is_floating_point():
                raise ValueError(f"{name} is {state[name].dtype}")
        net.load_state_dict(state, assign=True)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise _refusal(path, in_one_line(error)) from None
    return net.eval().float().to(memory_format=torch.channels_last), meta


def digest(state: State) -> str:
    """sha256 of all weights, sorted by name."""
    sha256 = hashlib.sha256()
    for name in sorted(state):
        sha256.update(name.encode())
        sha256.update(state[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()
