"""Caffe's files, written field by field: protobuf's wire format, caffe.proto's numbers."""

import struct
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float32]


def varint(value: int) -> bytes:
    value %= 2**64
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def number_field(number: int, value: int) -> bytes:
    return tag(number, 0) + varint(value)


def bytes_field(number: int, content: bytes, *, length: int | None = None) -> bytes:
    return tag(number, 2) + varint(len(content) if length is None else length) + content


def floats(values: Iterable[float], packed: bool = True) -> bytes:
    each = [struct.pack("<f", value) for value in values]
    return bytes_field(5, b"".join(each)) if packed else b"".join(tag(5, 5) + value for value in each)


def doubles(values: Iterable[float], packed: bool = True) -> bytes:
    each = [struct.pack("<d", value) for value in values]
    return bytes_field(8, b"".join(each)) if packed else b"".join(tag(8, 1) + value for value in each)


def shape_field(*sides: int, packed: bool = True) -> bytes:
    dims = bytes_field(1, b"".join(map(varint, sides)))
    return bytes_field(7, dims if packed else b"".join(number_field(1, side) for side in sides))


def old_shape(*sides: int) -> bytes:
    return b"".join(number_field(i, side) for i, side in enumerate((1,) * (4 - len(sides)) + sides, 1))


def blob_of(array: Array, old: bool = False, packed: bool = True) -> bytes:
    shape = old_shape(*array.shape) if old else shape_field(*array.shape, packed=packed)
    return shape + (bytes_field(5, array.tobytes()) if packed else floats(array.ravel().tolist(), packed=False))


def layer_of(name: str | bytes, *blobs: bytes, old: bool = False) -> bytes:
    name = name.encode() if isinstance(name, str) else name
    if old:
        return bytes_field(2, bytes_field(4, name) + b"".join(bytes_field(6, blob) for blob in blobs))
    return bytes_field(100, bytes_field(1, name) + b"".join(bytes_field(7, blob) for blob in blobs))


def net_of(layers: dict[str, list[Array]], old: bool = False, packed: bool = True) -> bytes:
    """As Caffe saves a net: its name, its input, and between the layers with blobs others without."""
    parts = [bytes_field(1, b"net"), layer_of("data", old=old)]
    for name, blobs in layers.items():
        parts += [layer_of(name, *(blob_of(b, old, packed) for b in blobs), old=old)]
        parts += [layer_of(f"relu_{name}", old=old)]
    return b"".join(parts)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def blobs_of(state: Mapping[str, Tensor]) -> dict[str, list[Array]]:
    """A state dict's weight and bias by layer, as a .caffemodel has them."""
    layers: dict[str, list[Array]] = {}
    for name, tensor in state.items():
        layers.setdefault(name.rpartition(".")[0], []).append(tensor.numpy())
    return layers
