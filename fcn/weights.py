"""Model files, and the way weights go from a coarser net into a finer one."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fcn import files
from fcn.errors import UserError, in_one_line
from fcn.labels import Labels
from fcn.layers import Preprocessing
from fcn.models import FCN

State = dict[str, Tensor]


@dataclass(frozen=True)
class Published:
    """What others published that weights come from: its name, and the sha256 of the file that was used."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    sha256: str


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
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # the class describes the file, too

    architecture: dict[str, Any]
    preprocessing: Preprocessing
    labels: Labels | None
    parent: str | None
    published: Published | None
    iterations: int
    threads: int
    params: dict[str, Any]
    processes: int = 1
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def scored(self) -> bool:
        """Whether its predictions mean anything: it was trained, or published."""
        return self.iterations > 0 or self.published is not None


def save(path: Path, state: State, meta: Meta) -> None:
    """Writes a model file, whole or not at all. One JSON string under one key: more would have no fixed order."""
    facts = asdict(meta)
    if meta.labels:  # how raw masks spell the classes is no concern of a net
        facts["labels"] = {"names": meta.labels.names, "palette": meta.labels.palette}
    files.write_tensors(path, state, "fcn", facts)


def load(path: Path) -> tuple[State, Meta]:
    """Reads a model file.

    raises   UserError if it is missing, damaged, or not one of this project's
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; run `dvc checkout`, or `dvc repro` if it was never made")
    try:
        with safe_open(path, "pt") as file:
            meta = TypeAdapter(Meta).validate_json((file.metadata() or {})["fcn"], strict=True)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
    except ValidationError as error:
        found = error.errors()[0]
        reason = f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = in_one_line(error)
    else:
        return state, meta
    raise UserError(f"{path} is no model file of this project ({reason})")


def build(path: Path) -> tuple[FCN, Meta]:
    """The net of a model file, in evaluation mode."""
    state, meta = load(path)
    if "stride" not in meta.architecture:
        raise UserError(f"{path} holds a backbone, not a net")
    try:
        if state["score_fr.weight"].shape[0] != meta.architecture["num_classes"]:
            raise ValueError("its scores are of another number of classes")  # said before a net of any size is made
        net = FCN(**meta.architecture, preprocessing=meta.preprocessing)
        net.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: {in_one_line(error)}") from None
    return net.eval().to(memory_format=torch.channels_last), meta


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
