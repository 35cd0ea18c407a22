"""Loads weights that must be a net's own, name by name and shape by shape."""

from torch import Tensor

from fcn.models.fcn import FCN
from fcn.models.weights import State
from fcn.runtime.errors import UserError, in_one_line


def fill(net: FCN, state: State, name: str) -> None:
    """Loads a state dict that must be the net's own, name by name and shape by shape.

    Kernels of upsampling may be left out, for the net has its own; those that are there are compared.

    raises   UserError that lists every surprise
    """
    ours = net.state_dict()
    kernels = {key: tensor for key, tensor in ours.items() if _is_kernel(key)}
    plain = ({key: t for key, t in each.items() if not _is_kernel(key)} for each in (state, ours))
    found = surprises(*plain)
    if not found:
        try:
            net.load_state_dict(kernels | state)
        except RuntimeError as error:  # upsampling layers look at their kernels themselves
            found = [in_one_line(error)]
    if found:
        raise UserError(f"{name} is another net: {'; '.join(found)}")


def _is_kernel(key: str) -> bool:
    return key.startswith("upscore")


def surprises(state: State, expected: State) -> list[str]:
    """What is missing, unknown, of another shape or type, or not finite, one by one."""
    return [
        *(f"{name} is missing" for name in expected if name not in state),
        *(f"{name} is unknown" for name in state if name not in expected),
        *(
            f"{name} is {_form(tensor)}, not {_form(expected[name])}"
            for name, tensor in state.items()
            if name in expected and _form(tensor) != _form(expected[name])
        ),
        *(f"{name} has values that are not finite" for name, tensor in state.items() if not tensor.isfinite().all()),
    ]


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
