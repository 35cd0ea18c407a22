"""Read published Caffe weights without Caffe, and convert them to a state dict of FCN.

source   BVLC/caffe's caffe.proto: NetParameter, V1LayerParameter, LayerParameter, BlobProto, BlobShape;
         the FCN reference's net.py files for the layers' names
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcn.runtime.errors import UserError

Blob = npt.NDArray[np.float32]

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # wire types; 3 and 4 are groups, which caffe.proto lacks
LAYERS = {2: (4, 6), 100: (1, 7)}  # fields of a net: V1 layers and layers; for each, its fields name and blobs
VALUES = {5: (FOUR_BYTES, "<f4"), 8: (EIGHT_BYTES, "<f8")}  # fields of a blob: data, double_data
SHAPE, OLD_SHAPE = 7, (1, 2, 3, 4)  # fields of a blob: shape; num, channels, height, width of old files
MAX_AXES = 32  # as in Caffe
MAX_NAME = 256  # bytes
MAX_FIELDS = 100_000  # published files have some hundreds; the limit stops hours of parsing random bytes

CLASSIFIERS = re.compile(r"fc8|loss[12]/(conv|fc|classifier)|loss3/classifier")  # also GoogLeNet's auxiliary ones
# Names in all nets. _sem and _geo mark the score paths of SIFT Flow's nets, color and hha the nets of a late fusion,
# _bgrd the first layer of the net that sees colour and depth.
LAYER = re.compile(
    r"(conv[1-5](_[1-4])?|fc[67]|(score_(fr|pool[34])|upscore(2|8|16|_pool4)?)(_sem|_geo)?)(?P<net>color|hha)?"
    r"|conv1_1_bgrd"
    r"|conv1/7x7_s2|conv2/3x3(_reduce)?|inception_[345][a-e]/([135]x[135](_reduce)?|pool_proj)|" + CLASSIFIERS.pattern
)
NETS = {"color": "rgb.", "hha": "hha."}  # prefix of our names by suffix of theirs
SCALES = {"scale_pool4": 0.01, "scale_pool3": 0.0001}  # constants of the at-once net


class Field(NamedTuple):
    """One field of a message: its tag is at byte `at`, its content at bytes start:stop."""

    number: int
    wire: int
    at: int
    start: int
    stop: int


def read(path: Path) -> dict[str, list[Blob]]:
    """The blobs of each layer that has any (weight, then bias), fp32, in the file's order and shapes.

    Every length is checked against the bytes in the file, so the arrays are never larger than the file. A file that is
    truncated exactly between two layers cannot be detected here, so load the weights strictly.

    raises   UserError, with byte offset and reason, if the file is missing or not a readable .caffemodel
    """
    if not path.is_file():
        raise UserError(f"{path} is missing")
    size = path.stat().st_size
    if not 0 < size < 2**31:
        raise UserError(f"{path} is not a readable .caffemodel: it has {size} bytes, not 1 to 2^31 - 1")
    file = _File(path, np.asarray(np.memmap(path, np.uint8, "r")))
    layers: dict[str, list[Blob]] = {}
    for field in file.fields(0, size):
        if field.number in LAYERS:
            name, blobs = file.layer(file.expect(field, BYTES), *LAYERS[field.number])
            if blobs and layers.setdefault(name, blobs) is not blobs:
                raise file.refusal(field.at, f"a second layer {name!r} with blobs")
    if not layers:
        raise file.refusal(0, "no layer has blobs")
    return layers


def state_dict(blobs: dict[str, list[Blob]], *, at_once: bool = False, fc6: int = 7) -> dict[str, Tensor]:
    """Convert the result of `read` to FCN's state dict. Input channels stay BGR; memory is shared with `blobs`.

    Caffe's kernel layout is torch's: (out, in, h, w), and (in, out, h, w) for transposed convolutions. The fully
    connected fc6 and fc7 become convolutions; fc8 and GoogLeNet's classifiers are dropped. The upsampling that the nets
    of a late fusion share, after their scores are averaged, becomes one of each net.

    at_once  whether the net scales pool4 and pool3 down, as the reference's at-once net does; a file without the
             scales is accepted too, because Caffe then fills them in
    fc6      kernel of the net's fc6, in pixels
    raises   UserError that names all layers unknown to the reference nets, or the layer with a wrong shape
    """
    if unknown := [name for name in blobs if not LAYER.fullmatch(name) and name not in SCALES]:
        raise UserError(f"no FCN has the layers {', '.join(map(repr, unknown))}")
    size = sum(blob.size for layer in blobs.values() for blob in layer)
    fused = list(dict.fromkeys(NETS[suffix] for suffix in map(_suffix, blobs) if suffix))
    state: dict[str, Tensor] = {}
    for source_name, layer in blobs.items():
        if source_name in SCALES:
            if not at_once:
                raise UserError(f"these weights have a layer {source_name}: they need an FCN with at_once=True")
            if len(layer) != 1 or (layer[0] != np.float32(SCALES[source_name])).any():
                raise UserError(f"layer {source_name} is not {SCALES[source_name]} throughout")
            continue
        suffix = _suffix(source_name)
        name = source_name.removesuffix(suffix).removesuffix("_bgrd")
        if CLASSIFIERS.fullmatch(name):
            continue
        if len(layer) != (1 if name.startswith("upscore") else 2):
            raise UserError(f"layer {source_name} has {len(layer)} blobs")
        values = {"weight": torch.from_numpy(_kernel(name, layer[0], size, fc6))}
        for bias in layer[1:]:
            if bias.size != max(bias.shape, default=0):  # (n,), or (1, 1, 1, n) in old files
                raise UserError(f"layer {source_name} has a bias of shape {bias.shape}")
            values["bias"] = torch.from_numpy(bias.reshape(-1))
        shared = fused if name.startswith("upscore") and not suffix else []
        for prefix in shared or [NETS.get(suffix, "")]:
            if f"{prefix}{name}.weight" in state:
                raise UserError(f"two layers of these weights are {prefix}{name}, one of them {source_name}")
            state |= {f"{prefix}{name}.{kind}": tensor for kind, tensor in values.items()}
    return state


def _suffix(layer: str) -> str:
    """The suffix that names the net of a late fusion; empty for other layers."""
    match = LAYER.fullmatch(layer)
    return (match["net"] or "") if match else ""


def _kernel(name: str, blob: Blob, max_values: int, fc6: int) -> Blob:
    """The kernel with four axes; `max_values` limits the size of a grouped upsampling when it is expanded."""
    matrix = blob.shape[2:] if blob.ndim == 4 and blob.shape[:2] == (1, 1) else blob.shape
    side = {"fc6": fc6, "fc7": 1}.get(name)
    if side and len(matrix) == 2 and matrix[1] % side**2 == 0:
        return blob.reshape(matrix[0], -1, side, side)
    if blob.ndim != 4:
        raise UserError(f"layer {name} has a kernel of shape {blob.shape}")
    if not name.startswith("upscore") or blob.shape[1] != 1:
        return blob
    # With `group: C` the file holds one kernel per class: the diagonal of FCN's ungrouped layer.
    if blob.size * len(blob) > max_values:
        raise UserError(f"layer {name} of shape {blob.shape} would be larger than its net when expanded")
    kernel = np.zeros((len(blob), *blob.shape[:1], *blob.shape[2:]), np.float32)
    kernel[range(len(blob)), range(len(blob))] = blob[:, 0]
    return kernel


class _File:
    """A protobuf reader of one file: unknown fields are skipped, invalid ones are refused."""

    def __init__(self, path: Path, data: npt.NDArray[np.uint8]) -> None:
        self.path, self.data, self.fields_left = path, data, MAX_FIELDS

    def layer(self, message: Field, name_number: int, blobs_number: int) -> tuple[str, list[Blob]]:
        names, blobs = [], []
        for field in self.fields(message.start, message.stop):
            if field.number == name_number:
                names.append(self.name(self.expect(field, BYTES)))
            elif field.number == blobs_number:
                blobs.append(self.blob(self.expect(field, BYTES)))
        if blobs and (len(names) != 1 or not names[0]):
            raise self.refusal(message.at, f"a layer with blobs has {len(names)} names, or an empty one")
        return "".join(names), blobs

    def name(self, field: Field) -> str:
        if field.stop - field.start > MAX_NAME:
            raise self.refusal(field.at, f"a name of {field.stop - field.start} bytes")
        try:
            return self.data[field.start : field.stop].tobytes().decode()
        except UnicodeDecodeError:
            raise self.refusal(field.at, "a name that is not UTF-8") from None

    def blob(self, message: Field) -> Blob:
        """A copy of the values in their shape, made after the two have been compared."""
        fields_read: dict[int, Any] = {}
        at = message.start
        while at < message.stop:
            field = self.field(at, message.stop)
            at = field.stop
            if field.number in fields_read:
                raise self.refusal(field.at, f"field {field.number} of a blob is duplicated")
            if field.number in VALUES:
                fields_read[field.number], at = self.values(field, message.stop)
            elif field.number == SHAPE:
                fields_read[SHAPE] = self.shape(self.expect(field, BYTES))
            elif field.number in OLD_SHAPE:
                fields_read[field.number] = self.sides(self.expect(field, VARINT))[0]
        kinds = [fields_read[number] for number in VALUES if number in fields_read]
        old_shape = [fields_read.get(number, 0) for number in OLD_SHAPE]
        if len(kinds) != 1 or (SHAPE in fields_read and any(old_shape)):
            raise self.refusal(message.at, "a blob without values, or with two kinds of values or of shape")
        values, shape = kinds[0], fields_read.get(SHAPE, old_shape)
        if not 0 < len(values) == math.prod(shape[:MAX_AXES]) or len(shape) > MAX_AXES:
            raise self.refusal(message.at, f"a blob of shape {shape[:MAX_AXES]} has {len(values)} values")
        with np.errstate(over="ignore"):  # a double beyond fp32 is infinite, as it is in Caffe
            return np.array(values, np.float32).reshape(shape)

    def values(self, field: Field, end: int) -> tuple[npt.NDArray[Any], int]:
        """A view of a blob's values, packed in one field or one field each, and the offset after the last."""
        wire, dtype = VALUES[field.number]
        if self.expect(field, BYTES, wire).wire == BYTES:
            if (field.stop - field.start) % np.dtype(dtype).itemsize:
                raise self.refusal(field.at, f"values of {field.stop - field.start} bytes in all")
            return self.data[field.start : field.stop].view(dtype), field.stop
        record = np.dtype([("tag", f"V{field.start - field.at}"), ("value", dtype)])
        max_values = (end - field.at) // record.itemsize
        rows = self.data[field.at : field.at + max_values * record.itemsize].view(record)
        same = rows["tag"] == rows["tag"][0]
        count = max_values if same.all() else int(same.argmin())
        return rows["value"][:count], field.at + count * record.itemsize

    def shape(self, message: Field) -> list[int]:
        dims = (field for field in self.fields(message.start, message.stop) if field.number == 1)
        return [side for field in dims for side in self.sides(self.expect(field, BYTES, VARINT))]

    def sides(self, field: Field) -> list[int]:
        sides: list[int] = []
        at = field.start
        while at < field.stop and len(sides) <= MAX_AXES:
            side, at = self.varint(at, field.stop)
            if not 0 < side < 2**31:
                raise self.refusal(field.at, f"a side of {side - (side >> 63 << 64)}")
            sides.append(side)
        return sides

    def fields(self, at: int, end: int) -> Iterator[Field]:
        while at < end:
            field = self.field(at, end)
            yield field
            at = field.stop

    def field(self, at: int, end: int) -> Field:
        self.fields_left -= 1
        if self.fields_left < 0:
            raise self.refusal(at, f"more than {MAX_FIELDS} fields")
        tag, start = self.varint(at, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 2**29 or wire not in (VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES):
            raise self.refusal(at, f"field {number} of wire type {wire}")
        size = 4 if wire == FOUR_BYTES else 8
        if wire == BYTES:
            size, start = self.varint(start, end)
        elif wire == VARINT:
            size = self.varint(start, end)[1] - start
        if size > end - start:
            raise self.refusal(at, f"field {number} has {size} bytes where {end - start} are left")
        return Field(number, wire, at, start, start + size)

    def expect(self, field: Field, *wires: int) -> Field:
        if field.wire not in wires:
            raise self.refusal(field.at, f"field {field.number} has wire type {field.wire}")
        return field

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """A varint (seven bits per byte, lowest first), and the offset after it."""
        value = 0
        for i, byte in enumerate(self.data[at : min(at + 10, end)].tolist()):
            value |= (byte & 127) << 7 * i
            if byte < 128 and value < 2**64:
                return value, at + i + 1
        raise self.refusal(at, "not a varint of at most 64 bits, or a truncated one")

    def refusal(self, at: int, reason: str) -> UserError:
        return UserError(f"{self.path} is not a readable .caffemodel: byte {at}: {reason}")
