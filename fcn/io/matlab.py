"""Read MATLAB files from untrusted sources: shapes and types are checked before values are used.

Version 5 (SIFT Flow, the reference's NYUDv2) has its own reader here, limited to what masks need, because a few changed
bytes can crash scipy 1.17. Version 7.3 (NYUDv2's labelled file) is HDF5 and is read with h5py. HDF5 decompresses a
chunk of any size, so the digest of such a file must have been verified.
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

MAX_UNPACKED = 32 << 20  # bytes of a version 5 file; NYUDv2's masks have 2 MB at most
MAX_SIDE = 2048  # pixels of a mask's longer side; 640 in NYUDv2
CACHE = {"rdcc_nbytes": 128 << 20, "rdcc_nslots": 20011}  # HDF5 chunk cache: one chunk may span many images
# Version 5 constants: element types, value types, the array classes double to uint64 and struct, flags.
MATRIX, COMPRESSED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMBERS, STRUCT = range(6, 16), 2
COMPLEX, LOGICAL = 0x800, 0x200


def matrix(content: bytes, name: str, where: str) -> npt.NDArray[Any]:
    """One matrix of a version 5 file, such as a mask.

    content   the bytes of the file
    name      name of the variable; STRUCT.FIELD for a field of a struct
    where     the file's name, for error messages
    returns   (H, W) real numbers, in the stored dtype
    raises    UserError if the variable is missing, not a numeric matrix or too large, or the file is broken
    source    MATLAB's "MAT-File Format", Level 5
    """
    variable, _, field = name.partition(".")
    try:
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if not order:
            raise ValueError("its header is not that of version 5")
        matched: list[tuple[int, bytes]] = []
        for body in _matrices(content[128:], order):
            parts = list(islice(_elements(body, order), 5))
            if len(parts) > 2 and parts[2][1] == variable.encode():
                if matched:
                    raise ValueError(f"variable {variable} is duplicated")
                matched = _field(list(_elements(body, order)), field, order) if field else parts
        if not matched:
            raise ValueError(f"variable {name} is missing")
        return _numbers(matched, order)
    except (ValueError, KeyError, struct.error, zlib.error) as error:
        raise UserError(f"{where} is not a MATLAB file with a mask {name} ({in_one_line(error)})") from None


def _matrices(content: bytes, order: str) -> Iterator[bytes]:
    """The variables of a file, decompressed; at most MAX_UNPACKED bytes in total, whatever their headers claim."""
    left = MAX_UNPACKED
    for kind, body in _elements(content, order):
        plain = body
        if kind == COMPRESSED:
            stream = zlib.decompressobj()
            plain = stream.decompress(body, left + 1)
            if not stream.eof and len(plain) <= left:
                raise ValueError("it is truncated")
        left -= len(plain)
        if left < 0:
            raise ValueError(f"it unpacks to more than {MAX_UNPACKED >> 20} MiB")
        if kind == COMPRESSED:
            ((kind, plain),) = _elements(plain, order)
        if kind == MATRIX:
            yield plain


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each element.

    raises   ValueError if an element is truncated
    """
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        if kind >> 16:  # a small element: the size is in the upper half, up to four bytes follow immediately
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start, end = at + 8, at + 8 + size + (0 if kind == COMPRESSED else -size % 8)
        if start + size > min(end, len(content)):
            raise ValueError("it is truncated")
        yield kind, content[start : start + size]
        at = end


def _field(parts: list[tuple[int, bytes]], field: str, order: str) -> list[tuple[int, bytes]]:
    """The elements of a field's matrix.

    parts   elements of a 1x1 struct: flags, dimensions, name, length of the field names, field names, fields
    """
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    if flags & 0xFF != STRUCT or parts[1][1] != struct.pack(f"{order}2i", 1, 1) or len(parts) < 5:
        raise ValueError("it is not a struct")
    (length,) = struct.unpack(f"{order}i", parts[3][1])
    if length < 1:
        raise ValueError("its fields have no names")
    names = [parts[4][1][at : at + length].rstrip(b"\0") for at in range(0, len(parts[4][1]), length)]
    kind, body = parts[5 + names.index(field.encode())] if len(parts) == 5 + len(names) else (0, b"")
    if kind != MATRIX:
        raise ValueError(f"its field {field} is not a matrix")
    return list(islice(_elements(body, order), 5))


def _numbers(parts: list[tuple[int, bytes]], order: str) -> npt.NDArray[Any]:
    """The values of a matrix's elements: flags, dimensions, name, real part."""
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    if flags & 0xFF not in NUMBERS or flags & (COMPLEX | LOGICAL) or len(parts) != 4:
        raise ValueError("it is not a matrix of real numbers")
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    if len(shape) != 2 or not 0 < min(shape) <= max(shape) <= MAX_SIDE:
        raise ValueError(f"its size is {'x'.join(map(str, shape))}")
    kind, values = parts[3]
    return np.frombuffer(values, f"{order}{TYPES[kind]}").reshape(shape, order="F")


def planes(
    path: Path, expected: Mapping[str, tuple[tuple[int, ...], str]], numbers: Iterable[int]
) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
    """Some planes of the arrays of a version 7.3 file, one at a time, in the file's order.

    expected   shape and dtype by array name; HDF5 reverses MATLAB's axes, so the plane axis comes first here
    numbers    indices of the wanted planes, from 0
    yields     the index, and the plane of each array with axes in MATLAB's order
    raises     UserError if an array is missing, has another shape or dtype, or the file is broken
    """
    with _one_line(path):
        file = h5py.File(path, "r", **CACHE)  # type: ignore[no-untyped-call]
    with file:
        with _one_line(path):
            arrays = {name: _array(file, name, *facts) for name, facts in expected.items()}
        for number in sorted(numbers):
            with _one_line(path):
                selected = {name: array[number].T for name, array in arrays.items()}
            yield number, selected


def _array(file: h5py.File, name: str, shape: tuple[int, ...], kind: str) -> Any:
    """The array of this name; links to other files are refused."""
    link = file.get(name, getlink=True)  # type: ignore[no-untyped-call]
    array = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"array {name} is missing")
    if array.shape != shape or array.dtype != np.dtype(kind) or array.external or array.is_virtual:
        size = "x".join(map(str, array.shape or ("nothing",)))
        raise ValueError(f"{name} is {size} of {array.dtype}, not {'x'.join(map(str, shape))} of {np.dtype(kind)}")
    return array


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Convert HDF5's errors to a UserError of one line."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not the expected MATLAB file ({in_one_line(error)})") from None
