"""A mask in MATLAB's version 5: read as it stands there, or refused in one line and in little memory."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from makers import version5

from fcn.io import matlab
from fcn.runtime.errors import UserError

MATRIX = np.arange(6).reshape(2, 3)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["uint8", "int16", "float64"])
def test_a_matrix_is_read_as_it_stands_in_matlab(packed: bool, kind: str) -> None:
    content = version5({"names": np.array(["a", "b"], object), "S": MATRIX.astype(kind), "x": 1}, packed)
    assert matlab.matrix(content, "S", "a.mat").tolist() == [[0, 1, 2], [3, 4, 5]]


MATLABS_OWN = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"


@pytest.mark.skipif(not MATLABS_OWN.is_dir(), reason="scipy is installed without the files that its tests read")
@pytest.mark.parametrize("version", ["6.1_SOL2", "6.5.1_GLNX86", "7.4_GLNX86"])
def test_a_file_that_matlab_wrote_is_read_packed_or_not_and_in_either_byte_order(version: str) -> None:
    content = (MATLABS_OWN / f"testmatrix_{version}.mat").read_bytes()
    assert matlab.matrix(content, "testmatrix", "a.mat").tolist() == [[1, 2, 3, 4, 5], [2, 0, 0, 0, 0], [3, 0, 0, 0, 0]]


def lying(shape: tuple[int, int]) -> bytes:
    """A matrix of six numbers that claims another shape."""
    return version5({"S": MATRIX.astype(np.uint8)}, False).replace(struct.pack("<II", 2, 3), struct.pack("<II", *shape))


def twice() -> bytes:
    one = version5({"S": MATRIX})
    return one + one[128:]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its header is not that of version 5"),
        (b"<html>not found</html>" * 20, "its header is not that of version 5"),
        (version5({"S": MATRIX})[:-5], "it is truncated"),
        (version5({"S": MATRIX}, False)[:-5], "it is truncated"),
        (version5({"T": MATRIX}), "variable S is missing"),
        (twice(), "variable S is duplicated"),
        (version5({"S": {"a": MATRIX}}), "it is not a matrix of real numbers"),
        (version5({"S": np.array([MATRIX, "b"], object)}), "it is not a matrix of real numbers"),
        (version5({"S": np.zeros((2, 3, 4))}), "its size is 2x3x4"),
        (version5({"S": MATRIX > 2}), "it is not a matrix of real numbers"),
        (version5({"S": MATRIX + 1j}), "it is not a matrix of real numbers"),
        (version5({"S": np.zeros((0, 3))}), "its size is 0x3"),
        (lying((60000, 60000)), "its size is 60000x60000"),
        (lying((2000, 2000)), "cannot reshape array of size 6 into shape"),
    ],
)
def test_what_is_no_file_with_a_mask_is_refused_in_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=rf"^a\.mat is not a MATLAB file with a mask S \({reason}.*\)$"):
        matlab.matrix(content, "S", "a.mat")


def packed(content: Callable[[int], bytes], mebibytes: int) -> bytes:
    """A packed element of so many mebibytes."""
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(content(1 << 20)) for _ in range(mebibytes)) + packer.flush()
    return struct.pack("<II", matlab.COMPRESSED, len(body)) + body


HEADER = version5({})[:128]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEADER + packed(bytes, 200), "unpacks to more than 32 MiB"),
        (HEADER + version5({"x": np.zeros(4 << 20)}, True)[128:] + packed(bytes, 200), "unpacks to more than 32 MiB"),
        # Its pixels take two gigabytes, it says.
        (lying((2, 3))[:-16] + struct.pack("<II", 2, 1 << 31) + bytes(8), "it is truncated"),
        (HEADER + struct.pack("<II", matlab.MATRIX, 0) * 10_000, "variable S is missing"),
        (HEADER + struct.pack("<II", matlab.MATRIX, 1 << 22) + bytes(1 << 22), "variable S is missing"),
    ],
)
def test_what_a_file_claims_or_unpacks_to_costs_no_memory(content: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=reason):
            matlab.matrix(content, "S", "a.mat")
        assert tracemalloc.get_traced_memory()[1] < 4 * matlab.MAX_UNPACKED
    finally:
        tracemalloc.stop()
