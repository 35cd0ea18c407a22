"""MATLAB's files, version 5, as far as masks need them: bounded, since their archives may not be trusted."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io

from fcn.errors import UserError
from fcn.extraction import MOST

COMPRESSED = 15  # the type of an element that is a zlib stream
WHOLE_NUMBERS = ("uint8", "uint16", "int8", "int16", "uint32", "int32")


def matrix(content: bytes, name: str, where: str) -> npt.NDArray[np.integer[Any]]:
    """A matrix of whole numbers.

    name      of the variable
    where     what the file is called in what is said about it
    returns   (H, W), not empty, of the type it was saved as
    raises    UserError if the file is broken, inflates to more than an image may, or holds anything
              else under that name: structs, cells and objects are never read
    """
    try:
        if _inflated(content) > MOST:
            raise UserError(f"{where} inflates to more than {MOST >> 20} MiB")
        kinds = {found: kind for found, _, kind in scipy.io.whosmat(io.BytesIO(content))}  # type: ignore[no-untyped-call]
        if kinds.get(name) not in WHOLE_NUMBERS:
            raise UserError(f"{where} has no whole numbers named {name}")
        values = scipy.io.loadmat(io.BytesIO(content), variable_names=[name])[name]  # type: ignore[no-untyped-call]
    except UserError:
        raise
    except Exception as error:  # the format has many ways to be broken, and scipy no one word for them
        raise UserError(f"{where} is no whole MATLAB file ({error})") from None
    found: npt.NDArray[np.integer[Any]] = np.asarray(values)
    if found.ndim != 2 or not found.size:
        raise UserError(f"{where}: {name} is {'×'.join(map(str, found.shape))}, not a picture's rows and columns")
    return found


def _inflated(content: bytes) -> int:
    """Bytes of the file's elements once they are inflated; counted no further than MOST."""
    order = ">" if content[126:128] == b"MI" else "<"
    total, at = 0, 128  # after the header
    while at + 8 <= len(content) and total <= MOST:
        kind, size = struct.unpack_from(f"{order}II", content, at)
        element = content[at + 8 : at + 8 + size]
        total += len(zlib.decompressobj().decompress(element, MOST + 1)) if kind == COMPRESSED else len(element)
        at += 8 + size
    return total
