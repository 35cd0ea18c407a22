"""MATLAB's files: masks that some data sets come in, and what else such a file may try to be."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import scipy.io

from fcn import matlab
from fcn.errors import UserError

CODES = np.array([[2, 459, 0], [397, 431, 2]], np.uint16)


def saved(value: Any, compressed: bool = True, name: str = "LabelMap") -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"first": np.zeros(3), name: value}, do_compression=compressed)
    return file.getvalue()


def refusal(content: bytes) -> str:
    with pytest.raises(UserError) as caught:
        matlab.matrix(content, "LabelMap", "a.mat")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_matrix_of_whole_numbers_is_read_as_it_was_saved(compressed: bool) -> None:
    found = matlab.matrix(saved(CODES, compressed), "LabelMap", "a.mat")
    assert found.dtype == np.uint16
    assert (found == CODES).all()


CELLS = np.array([[np.zeros(2), "text"]], object)


@pytest.mark.parametrize("value", [{"Segmentation": CODES}, CELLS, "text", np.array([[0.5]])])
def test_what_is_no_whole_numbers_is_refused_unread(value: Any) -> None:
    assert refusal(saved(value)) == "a.mat has no whole numbers named LabelMap"


def test_a_file_without_the_variable_is_refused() -> None:
    assert refusal(saved(CODES, name="S")) == "a.mat has no whole numbers named LabelMap"


@pytest.mark.parametrize("value", [np.zeros((0, 3), np.uint8), np.zeros((2, 2, 2), np.uint8)])
def test_what_is_no_picture_is_refused(value: Any) -> None:
    shape = "×".join(map(str, value.shape))
    assert refusal(saved(value)) == f"a.mat: LabelMap is {shape}, not a picture's rows and columns"


def test_a_bomb_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MOST", 1 << 20)
    content = saved(np.zeros((4096, 4096), np.uint8))
    assert len(content) < 1 << 15
    assert refusal(content) == "a.mat inflates to more than 1 MiB"


def test_a_matrix_that_claims_more_pixels_than_it_has_is_refused() -> None:
    content = saved(CODES, compressed=False)
    assert content.count(struct.pack("<2i", 2, 3)) == 1
    assert "no whole MATLAB file" in refusal(
        content.replace(struct.pack("<2i", 2, 3), struct.pack("<2i", 40000, 40000))
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_ends_early_is_refused_wherever_it_ends(compressed: bool) -> None:
    content = saved(CODES, compressed)
    for end in range(0, len(content) - 4, 7):  # the last four bytes are padding, or a checksum
        assert refusal(content[:end]).startswith("a.mat ")


def test_what_is_no_matlab_file_is_refused() -> None:
    for content in (b"<html>not found</html>" * 20, bytes(1000), b"\x89HDF\r\n\x1a\n" + bytes(600)):
        assert refusal(content).startswith("a.mat ")
