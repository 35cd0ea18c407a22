"""Net surgery: the transfer of weights from a coarser net, or from the backbone, to a finer one."""

import torch
from torch import Tensor, nn

from fcn.models.fcn import FCN, State
from fcn.models.fusion import Net
from fcn.runtime.errors import UserError


def transplant(net: Net, parent: State, *, init_std: float, generator: torch.Generator) -> list[tuple[str, str]]:
    """Initializes a net from a coarser one, or from a backbone, as in the paper (net surgery).

    Layers that both have are copied. New score layers start at zero (or as a normal distribution with standard
    deviation `init_std`); new upsampling layers are bilinear by construction. Each net of a late fusion starts from
    its own part of the parent, or from the same backbone.

    returns  a table of (layer, "carried", "created" or "dropped")
    raises   UserError if the new and dropped layers are not exactly those implied by the net's stride
    """
    table = []
    for prefix, trunk in net.trunks():
        part = {name.removeprefix(prefix): t for name, t in parent.items() if name.startswith(prefix)} or parent
        rows = _transplant(trunk, part, init_std, generator)
        table += [(prefix + layer, origin) for layer, origin in rows]
    return table


def _transplant(net: FCN, parent: State, init_std: float, generator: torch.Generator) -> list[tuple[str, str]]:
    state = net.state_dict()
    first = f"{net.backbone.blocks[0][0].name}.weight"
    if first in parent:
        parent = parent | {first: with_channels(parent[first], state[first].shape[1])}
    ours, theirs = layers(state), layers(parent)
    coarser = _with_suffixes(net, {32: (), 16: ("upscore",), 8: ("upscore16",)}[net.stride])
    new = _with_suffixes(
        net,
        {32: ("score_fr", "upscore"), 16: ("score_pool4", "upscore2", "upscore16")}.get(
            net.stride, ("score_pool3", "upscore_pool4", "upscore8")
        ),
    )
    problems = [
        *(f"{layer} is new" for layer in ours if layer not in theirs and layer not in new),
        *(f"{layer} is unknown" for layer in theirs if layer not in ours and layer not in coarser),
        *(
            f"{name} is {tuple(parent[name].shape)}, not {tuple(tensor.shape)}"
            for name, tensor in state.items()
            if name in parent and parent[name].shape != tensor.shape
        ),
    ]
    if problems:
        raise UserError(f"FCN-{net.stride}s cannot start from these weights: {'; '.join(problems)}")
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


def _with_suffixes(net: FCN, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of layers in every score path."""
    return tuple(name + suffix for name in names for suffix in net.heads)


def with_channels(weight: Tensor, channels: int) -> Tensor:
    """The first convolution of a net that sees RGB, for an input with other channels.

    weight   (out, 3, k, k); one with other channels is returned as it is
    returns  (out, channels, k, k): of three channels or more, the first three keep the colours' filters; every other
             channel gets the mean of the three
    source   conv1_1_bgrd in nyud-fcn32s-color-d/solve.py
    """
    if weight.shape[1] != 3 or channels == 3:
        return weight
    colours = 3 if channels > 3 else 0
    mean = weight[:, :3].mean(1, keepdim=True)
    return torch.cat([weight[:, :colours], mean.expand(-1, channels - colours, -1, -1)], 1)


def layers(state: State) -> list[str]:
    """The names of a state dict's layers, in order."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in state))
