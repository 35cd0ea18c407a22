"""Model files, and the way weights go from a coarser net into a finer one."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fcn.data.labels import MOST, Labels
from fcn.data.scale import Scale
from fcn.models.fcn import BACKBONES, CROPS, FCN, STRIDES, UPSAMPLINGS
from fcn.models.layers import Preprocessing
from fcn.runtime import files
from fcn.runtime.errors import UserError, in_one_line

State = dict[str, Tensor]
LARGEST = 1 << 20  # bytes of what a model file says of itself
SAID = 300  # letters of why one is refused
CHOICES: dict[str, tuple[Any, ...]] = {  # of FCN's arguments; dropout is a fraction
    "num_classes": tuple(range(1, MOST + 1)),
    "stride": STRIDES,
    "backbone": tuple(BACKBONES),
    "at_once": (False, True),
    "pad": tuple(CROPS),
    "upsampling": UPSAMPLINGS,
}


def _architecture(found: dict[str, Any]) -> dict[str, Any]:
    for name, value in found.items():
        if name == "dropout":
            right = type(value) in (int, float) and 0 <= value < 1
        else:
            right = any(value == choice and type(value) is type(choice) for choice in CHOICES.get(name, ()))
        if not right:
            raise ValueError(f"{name} is {value!r}")
    return found


def _labels(found: Labels) -> Labels:
    if reason := found.wrong():
        raise ValueError(reason)
    return Labels(found.names, found.palette)


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Step = Annotated[str, Field(pattern="^[1-9][0-9]{0,8}$")]
NAME = "^[A-Za-z0-9_-]{1,100}$"
Name = Annotated[str, Field(pattern=NAME)]


@dataclass(frozen=True)
class Published:
    """What others published that weights come from: its name, and the sha256 of the file that was used.

    sha256   empty in model files of earlier versions, which recorded the name alone
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Name
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""


def _named(found: object) -> object:
    return Published(found) if isinstance(found, str) and re.fullmatch(NAME, found) else found


@dataclass(frozen=True)
class Meta:
    """What a model file says of itself; nothing in it varies between two runs of one experiment.

    architecture   FCN's arguments, or the backbone's name alone
    labels         names and colours of its classes
    parent         sha256 of the file it was initialised from, if there is one
    published      the published net or backbone it was initialised from, if there is one
    iterations     optimiser steps of its own; 0 for surgery only
    threads        of the CPU that computed it: sums of another number of threads round differently
    params         those that its stage declares
    processes      that trained it together
    digests        of its weights after some steps, by the step's number
    scale          how images were resized for its scores; none: not at all
    sha256         of all this and of the weights, as `save` found it; none in files of before it was kept
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # the class describes the file, too

    architecture: Annotated[dict[str, Any], AfterValidator(_architecture)]
    preprocessing: Preprocessing
    labels: Annotated[Labels, AfterValidator(_labels)] | None
    parent: Sha256 | None
    published: Annotated[Published | None, BeforeValidator(_named)]
    iterations: Annotated[int, Field(ge=0, le=10**12)]
    threads: Annotated[int, Field(ge=1, le=1 << 20)]
    params: dict[str, Any]
    processes: Annotated[int, Field(ge=1, le=1 << 20)] = 1
    digests: dict[Step, Sha256] = field(default_factory=dict)
    scale: Scale | None = None
    sha256: Sha256 | None = field(default=None, compare=False)

    @property
    def scored(self) -> bool:
        """Whether its predictions mean anything: it was trained, or published."""
        return self.iterations > 0 or self.published is not None


def save(path: Path, state: State, meta: Meta) -> None:
    """Writes a model file, whole or not at all. One JSON string under one key: more would have no fixed order."""
    facts = asdict(meta)
    if meta.labels:  # how raw masks spell the classes is no concern of a net
        facts["labels"] = {"names": meta.labels.names, "palette": meta.labels.palette}
    files.write_tensors(path, state, "fcn", facts | {"sha256": _sha256(state, facts)})


def load(path: Path) -> tuple[State, Meta]:
    """Reads a model file.

    raises   UserError if it is missing, damaged, or not one of this project's
    """
    text, meta = _facts(path)
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
        found = _sha256(state, json.loads(text))
    except (SafetensorError, TypeError, ValueError, RuntimeError) as error:
        raise _refusal(path, in_one_line(error)) from None
    if meta.sha256 not in (None, found):
        raise UserError(
            f"{path} is damaged: it does not hold what was saved; "
            "delete it and run `dvc checkout`, after `fcn doctor`, which says whether DVC's copy is whole"
        )
    return state, meta


def facts(path: Path) -> Meta:
    """What a model file says of itself, its weights unread.

    raises   UserError as `load`
    """
    return _facts(path)[1]


def _facts(path: Path) -> tuple[str, Meta]:
    """The same, and the text that says it."""
    if not path.is_file():
        raise UserError(f"{path} is missing; run `dvc checkout`, or `dvc repro` if it was never made")
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {})["fcn"]
        if len(text) > LARGEST:
            raise ValueError(f"{len(text)} bytes about itself")
        meta = _schema().validate_json(text, strict=True)
        if meta.labels and meta.architecture.get("num_classes", len(meta.labels.names)) != len(meta.labels.names):
            raise ValueError(f"{meta.architecture['num_classes']} scores for {len(meta.labels.names)} classes")
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
    short = reason if len(reason) <= SAID else f"{reason[:SAID]}…"
    return UserError(f"{path} is no model file of this project ({short})")


def _sha256(state: State, facts: Mapping[str, Any]) -> str:
    """The digest of a model file's content, but for the digest itself."""
    said = {key: value for key, value in facts.items() if key != "sha256"}
    shapes = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in state.items()}
    return hashlib.sha256(json.dumps([said, shapes, digest(state)], sort_keys=True).encode()).hexdigest()


def build(path: Path) -> tuple[FCN, Meta]:
    """The net of a model file, in evaluation mode."""
    state, meta = load(path)
    if "stride" not in meta.architecture:
        raise UserError(f"{path} holds a backbone, not a net")
    try:
        with torch.device("meta"):  # no memory is asked for what the file may not hold
            net = FCN(**meta.architecture, preprocessing=meta.preprocessing)
        for name, tensor in net.state_dict().items():
            if name in state and state[name].is_floating_point() != tensor.is_floating_point():
                raise ValueError(f"{name} is {state[name].dtype}")
        net.load_state_dict(state, assign=True)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise _refusal(path, in_one_line(error)) from None
    return net.eval().float().to(memory_format=torch.channels_last), meta


def transplant(net: FCN, parent: State, *, init_std: float, generator: torch.Generator) -> list[tuple[str, str]]:
    """Initialises a net from a coarser one, or from a backbone: the paper's way.

    Every layer that both have is carried over; the score layers that only the finer one has start
    at zero (or at `init_std`); its upsampling is bilinear by construction.

    returns  (layer, "carried", "created" or "dropped") for each, as a table
    raises   UserError if other layers are new, or dropped, than the net's stride implies
    """
    state = net.state_dict()
    ours, theirs = layers(state), layers(parent)
    coarser = {32: (), 16: ("upscore",), 8: ("upscore16",)}[net.stride]
    new = {32: ("score_fr", "upscore"), 16: ("score_pool4", "upscore2", "upscore16")}.get(
        net.stride, ("score_pool3", "upscore_pool4", "upscore8")
    )
    surprises = [
        *(f"{layer} is new" for layer in ours if layer not in theirs and layer not in new),
        *(f"{layer} has no place" for layer in theirs if layer not in ours and layer not in coarser),
        *(
            f"{name} is {tuple(parent[name].shape)}, not {tuple(tensor.shape)}"
            for name, tensor in state.items()
            if name in parent and parent[name].shape != tensor.shape
        ),
    ]
    if surprises:
        raise UserError(f"FCN-{net.stride}s cannot start from these weights: {'; '.join(surprises)}")
    net.load_state_dict(parent | {name: state[name] for name in state if name not in parent}, strict=False)
    for layer in new:
        module = net.get_submodule(layer)
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, init_std, generator=generator)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return [
        *((layer, "carried" if layer in theirs else "created") for layer in ours),
        *((layer, "dropped") for layer in theirs if layer not in ours),
    ]


def digest(state: State) -> str:
    """sha256 of all weights, by name."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode())
        found.update(state[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def layers(state: State) -> list[str]:
    """The names of a state dict's layers, in order."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in state))
