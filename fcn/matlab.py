"""MATLAB's files, which anyone may have written: shapes and types are checked before a value is read.

Version 5 (SIFT Flow, the reference's NYUDv2) is read by scipy, version 7.3 (NYUDv2's own), which is HDF5, by h5py.
HDF5 unpacks as much as a chunk holds, whatever that is: a file of version 7.3 must be one whose digest was compared.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io

from fcn.errors import UserError

MOST = 32 << 20  # bytes of a version 5 file, unpacked; NYUDv2's masks have 2 MB at most
SIDE = 2048  # pixels of a mask's longer side; NYUDv2's has 640
CACHE = {"rdcc_nbytes": 128 << 20, "rdcc_nslots": 20011}  # of unpacked HDF5 chunks: one may span many images
COMPRESSED = 15  # version 5's mark of a packed element
NUMBERS = ("double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def matrix(content: bytes, name: str, where: str) -> npt.NDArray[Any]:
    """One matrix of a version 5 file, such as a mask.

    content   the bytes of the file
    returns   (H, W) real numbers, of the type in which they are stored
    raises    UserError if it is missing, no matrix of numbers, too large, or the file is broken
    """
    try:
        plain = io.BytesIO(_unpacked(content))
        found = [(shape, kind) for key, shape, kind in scipy.io.whosmat(plain) if key == name]  # type: ignore[no-untyped-call]
        if len(found) != 1:
            raise ValueError(f"it holds {name} {'twice' if found else 'nowhere'}")
        ((shape, kind),) = found
        if kind not in NUMBERS or len(shape) != 2 or not 0 < min(shape) <= max(shape) <= SIDE:
            raise ValueError(f"{name} is {'x'.join(map(str, shape))} of {kind}, not a mask")
        values = np.asarray(scipy.io.loadmat(plain, variable_names=[name])[name])  # type: ignore[no-untyped-call]
        if values.dtype.kind not in "uif":
            raise ValueError(f"{name} is of {values.dtype}, not of real numbers")
    except Exception as error:  # the format has many ways to be broken, and scipy no one word for them
        raise UserError(f"{where} is no MATLAB file with a mask {name} ({_line(error)})") from None
    return values


def _unpacked(content: bytes) -> bytes:
    """A version 5 file with its packed elements unpacked, up to MOST bytes; no element claims more than is there."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if not order:
        raise ValueError("its header is not version 5's")
    plain = content[:128]
    for kind, body in _elements(content[128:], order):
        if kind == COMPRESSED:
            stream = zlib.decompressobj()
            plain += stream.decompress(body, MOST + 1 - len(plain))
            if not stream.eof and len(plain) <= MOST:
                raise ValueError("it breaks off")
        else:
            plain += struct.pack(f"{order}II", kind, len(body)) + body
        if len(plain) > MOST:
            raise ValueError(f"it unpacks to more than {MOST >> 20} MiB")
    for _, body in _elements(plain[128:], order):
        for _ in _elements(body, order):  # scipy makes room for as many bytes as an element claims
            pass
    return plain


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each element, all of which must be there.

    source   MATLAB's MAT-File Format, "Data Element Format"
    """
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        if kind >> 16:  # a small element: its size is the upper half, its bytes follow at once
            yield kind & 0xFFFF, content[at + 4 : at + 8]
            at += 8
            continue
        body = content[at + 8 : at + 8 + size]
        if len(body) < size:
            raise ValueError("it breaks off")
        yield kind, body
        at += 8 + size + (0 if kind == COMPRESSED else -size % 8)


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
        raise UserError(f"{path} is not the MATLAB file that it should be ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
