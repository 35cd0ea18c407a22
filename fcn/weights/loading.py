"""Strict loading of weights: every name, shape and dtype must match the net."""

from torch import Tensor

from fcn.models import Net, State
from fcn.runtime.errors import UserError, in_one_line


def fill(net: Net, state: State, name: str) -> None:
    """Loads a state dict that must match the net in every name, shape and dtype.

    Upsampling kernels may be missing, because the net initializes them itself; kernels of fixed upsampling that are
    present are checked.

    raises   UserError listing every mismatch
    """
    ours = net.state_dict()
    kernels = {key: tensor for key, tensor in ours.items() if _is_kernel(key)}
    plain = ({key: t for key, t in each.items() if not _is_kernel(key)} for each in (state, ours))
    problems = mismatches(*plain)
    if not problems:
        try:
            net.load_state_dict(kernels | state)
        except RuntimeError as error:  # FixedUpsampling checks its kernel itself
            problems = [in_one_line(error)]
    if problems:
        raise UserError(f"{name} is another net: {'; '.join(problems)}")


def _is_kernel(key: str) -> bool:
    return any(part.startswith("upscore") for part in key.split("."))


def mismatches(state: State, expected: State) -> list[str]:
    """Lists every tensor that is missing, unknown, of another shape or dtype, or not finite."""
    return [
        *(f"{name} is missing" for name in expected if name not in state),
        *(f"{name} is unknown" for name in state if name not in expected),
        *(
            f"{name} is {_shape_and_dtype(tensor)}, not {_shape_and_dtype(expected[name])}"
            for name, tensor in state.items()
            if name in expected and _shape_and_dtype(tensor) != _shape_and_dtype(expected[name])
        ),
        *(f"{name} has values that are not finite" for name, tensor in state.items() if not tensor.isfinite().all()),
    ]


def _shape_and_dtype(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
