"""MATLAB's files, which anyone may have written: shapes and types are checked before a value is believed.

Version 5 (SIFT Flow, the reference's NYUDv2) is read here, as far as a mask needs it: scipy 1.17 can be made to crash
by a few changed bytes. Version 7.3 (NYUDv2's own) is HDF5, which h5py reads; HDF5 unpacks as much as a chunk holds,
whatever that is, so such a file must be one whose digest was compared.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from fcn.runtime.errors import UserError, in_one_line

MOST = 32 << 20  # bytes of a version 5 file, unpacked; NYUDv2's masks have 2 MB at most
SIDE = 2048  # pixels of a mask's longer side; NYUDv2's has 640
CACHE = {"rdcc_nbytes": 128 << 20, "rdcc_nslots": 20011}  # of unpacked HDF5 chunks: one may span many images
# Version 5's marks: of elements, of their values' types, of the classes double to uint64, of flags.
MATRIX, COMPRESSED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMBERS, STRUCT = range(6, 16), 2
COMPLEX, LOGICAL = 0x800, 0x200


def matrix(content: bytes, name: str, where: str) -> npt.NDArray[Any]:
    """One matrix of a version 5 file, such as a mask.

    content   the bytes of the file
    name      of the variable; STRUCT.FIELD for a field of one
    returns   (H, W) real numbers, of the type in which they are stored
    raises    UserError if it is missing, no matrix of numbers, too large, or the file is broken
    source    MATLAB's "MAT-File Format", Level 5
    """
    variable, _, field = name.partition(".")
    try:
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if not order:
            raise ValueError("its header is not version 5's")
        found: list[tuple[int, bytes]] = []
        for body in _matrices(content[128:], order):
            parts = list(islice(_elements(body, order), 5))
            if len(parts) > 2 and parts[2][1] == variable.encode():
                if found:
                    raise ValueError(f"it holds {variable} twice")
                found = _field(list(_elements(body, order)), field, order) if field else parts
        if not found:
            raise ValueError(f"it holds {name} nowhere")
        return _numbers(found, order)
    except (ValueError, KeyError, struct.error, zlib.error) as error:
        raise UserError(f"{where} is no MATLAB file with a mask {name} ({in_one_line(error)})") from None


def _matrices(content: bytes, order: str) -> Iterator[bytes]:
    """The variables of a file, unpacked; all together have MOST bytes at most, whatever they claim."""
    left = MOST
    for kind, body in _elements(content, order):
        plain = body
        if kind == COMPRESSED:
            stream = zlib.decompressobj()
            plain = stream.decompress(body, left + 1)
            if not stream.eof and len(plain) <= left:
                raise ValueError("it breaks off")
        left -= len(plain)
        if left < 0:
            raise ValueError(f"it unpacks to more than {MOST >> 20} MiB")
        if kind == COMPRESSED:
            ((kind, plain),) = _elements(plain, order)
        if kind == MATRIX:
            yield plain


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each element, all of which must be there."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        if kind >> 16:  # a small one: its size is the upper half, up to four bytes follow at once
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start, end = at + 8, at + 8 + size + (0 if kind == COMPRESSED else -size % 8)
        if start + size > min(end, len(content)):
            raise ValueError("it breaks off")
        yield kind, content[start : start + size]
        at = end


def _field(parts: list[tuple[int, bytes]], field: str, order: str) -> list[tuple[int, bytes]]:
    """The elements of a field's matrix.

    parts   of a single struct: flags, dimensions, name, how long its fields' names are, these, the fields
    """
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    if flags & 0xFF != STRUCT or parts[1][1] != struct.pack(f"{order}2i", 1, 1) or len(parts) < 5:
        raise ValueError("it is no struct")
    (length,) = struct.unpack(f"{order}i", parts[3][1])
    if length < 1:
        raise ValueError("its fields have no names")
    names = [parts[4][1][at : at + length].rstrip(b"\0") for at in range(0, len(parts[4][1]), length)]
    kind, body = parts[5 + names.index(field.encode())] if len(parts) == 5 + len(names) else (0, b"")
    if kind != MATRIX:
        raise ValueError(f"its field {field} is no matrix")
    return list(islice(_elements(body, order), 5))


def _numbers(parts: list[tuple[int, bytes]], order: str) -> npt.NDArray[Any]:
    """The values of a matrix's elements: flags, dimensions, name, real part."""
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    if flags & 0xFF not in NUMBERS or flags & (COMPLEX | LOGICAL) or len(parts) != 4:
        raise ValueError("it is no matrix of real numbers")
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    if len(shape) != 2 or not 0 < min(shape) <= max(shape) <= SIDE:
        raise ValueError(f"its size is {'x'.join(map(str, shape))}")
    kind, values = parts[3]
    return np.frombuffer(values, f"{order}{TYPES[kind]}").reshape(shape, order="F")


def planes(
    path: Path, expected: Mapping[str, tuple[tuple[int, ...], str]], numbers: Iterable[int]
) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
    """Some planes of a version 7.3 file's arrays, one at a time, in the file's order.

    expected   by array name its shape and type; HDF5 turns MATLAB's axes around, so the last, which
               counts the planes, is the first here
    numbers    of the wanted planes, from 0
    yields     the number and the plane of each array, axes in MATLAB's order
    raises     UserError if an array is missing or is another than expected, or the file is broken
    """
    with _one_line(path):
        file = h5py.File(path, "r", **CACHE)  # type: ignore[no-untyped-call]
    with file:
        with _one_line(path):
            arrays = {name: _array(file, name, *facts) for name, facts in expected.items()}
        for number in sorted(numbers):
            with _one_line(path):
                found = {name: array[number].T for name, array in arrays.items()}
            yield number, found


def _array(file: h5py.File, name: str, shape: tuple[int, ...], kind: str) -> Any:
    """The array of this name, in this very file."""
    link = file.get(name, getlink=True)  # type: ignore[no-untyped-call]
    array = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"it holds no array {name}")
    if array.shape != shape or array.dtype != np.dtype(kind) or array.external or array.is_virtual:
        size = "x".join(map(str, array.shape or ("nothing",)))
        raise ValueError(f"{name} is {size} of {array.dtype}, not {'x'.join(map(str, shape))} of {np.dtype(kind)}")
    return array


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What HDF5 has to say of a file, in one line."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not the MATLAB file that it should be ({in_one_line(error)})") from None
