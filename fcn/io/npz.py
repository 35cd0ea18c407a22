"""Read weights that Chainer saved as .npz, without Chainer and without unpickling.

source   DictionarySerializer and save_npz in chainer/serializers/npz.py: an .npy file LAYER/W or LAYER/b in a zip for
         each parameter; caffe_to_chainermodel.py of wkentaro/fcn, which keeps Caffe's layer names and shapes
"""

import math
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from fcn.runtime.errors import UserError, in_one_line

MAX_MEMBERS = 200
MAX_BYTES = 1 << 30  # decompressed; the largest published file has 0.6 GB
MAX_HEADER = 1000  # characters of the header of an array
Blob = npt.NDArray[np.float32]


def read(file: BinaryIO, path: Path) -> dict[str, list[Blob]]:
    """The weight and bias of each layer, fp32, as `caffemodel.read` gives them.

    Early versions have a bias in upsampling layers, which Caffe's lack: it must be zero, and is left out.

    path     the file's name, for error messages
    raises   UserError if it is not such a file, or too large
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > MAX_BYTES:
                raise ValueError("it has too many arrays, or too large ones")
            arrays = {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a file of Chainer's weights ({in_one_line(error)})") from None
    layers: dict[str, list[Blob]] = {}
    for kind in ("W", "b"):
        for name in [name for name in arrays if name.endswith(f"/{kind}")]:
            layer, array = name.removesuffix(f"/{kind}"), arrays.pop(name)
            if kind == "b" and layer.startswith("upscore") and not array.any():
                continue
            layers.setdefault(layer, []).append(array)
    if arrays:
        raise UserError(f"{path} has arrays that are no layer's W or b: {', '.join(map(repr, sorted(arrays)[:5]))}")
    return layers


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Blob:
    with archive.open(member) as stream:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError(f"{member.filename[:50]!r} is of another version")
        shape, fortran, dtype = npy.read_array_header_1_0(stream, MAX_HEADER)
        size = 4 * math.prod(shape)
        if dtype != np.float32 or fortran or not 0 < size <= member.file_size:
            raise ValueError(f"{member.filename[:50]!r} is an array of {dtype}, or has no values")
        content = bytearray(stream.read(size))
    if len(content) < size:
        raise ValueError(f"{member.filename[:50]!r} is truncated")
    return np.frombuffer(content, np.float32).reshape(shape)
