"""What is read of Caffe's files is what tests/caffe.py wrote field by field; all else is refused."""

import itertools
import random
import re
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from caffe import (
    Array,
    bytes_field,
    doubles,
    floats,
    layer_of,
    net_of,
    number_field,
    numbers,
    old_shape,
    shape_field,
    tag,
    varint,
)

from fcn.io import caffemodel
from fcn.runtime.errors import UserError


def refused(path: Path, content: bytes) -> str:
    """The one line with which a file is refused."""
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        caffemodel.read(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def attempt(path: Path) -> tuple[dict[str, list[Array]], str]:
    """What a file gives, and the line with which it, or its state dict, is refused; no other error is caught."""
    layers: dict[str, list[Array]] = {}
    try:
        layers = caffemodel.read(path)
        caffemodel.state_dict(layers)
    except UserError as error:
        return layers, str(error)
    return layers, ""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.caffemodel"


# -- what a file holds ----------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "packed"), list(itertools.product((True, False), repeat=2)))
def test_old_and_new_layers_are_read_with_packed_and_unpacked_numbers(path: Path, old: bool, packed: bool) -> None:
    weight, bias, other = numbers(4, 3, 2, 2), numbers(4, seed=1), numbers(1, 5, 1, 1, seed=2)
    path.write_bytes(net_of({"conv1_1": [weight, bias], "score_fr": [other]}, old, packed))
    layers = caffemodel.read(path)
    assert list(layers) == ["conv1_1", "score_fr"]
    assert [blob.shape for blob in layers["conv1_1"]] == [(4, 3, 2, 2), (1, 1, 1, 4) if old else (4,)]
    assert np.array_equal(layers["conv1_1"][0], weight)
    assert np.array_equal(layers["conv1_1"][1].reshape(-1), bias)
    assert np.array_equal(layers["score_fr"][0], other)
    for blob in (*layers["conv1_1"], *layers["score_fr"]):
        assert blob.dtype == np.float32
        assert blob.flags.writeable


def test_old_and_new_layers_stand_side_by_side(path: Path) -> None:
    one, two = numbers(2, 2), numbers(3)
    path.write_bytes(net_of({"fc6": [one]}, old=True) + net_of({"fc7": [two]}))
    assert list(caffemodel.read(path)) == ["fc6", "fc7"]


@pytest.mark.parametrize("packed", [True, False])
def test_doubles_become_single_precision(path: Path, packed: bool) -> None:
    path.write_bytes(layer_of("a", shape_field(3) + doubles([0.1, -2.5, 1e300], packed)))
    assert caffemodel.read(path)["a"][0].tolist() == [np.float32(0.1), -2.5, np.inf]


def test_an_empty_shape_is_a_single_number(path: Path) -> None:
    path.write_bytes(layer_of("a", bytes_field(7, b"") + floats([7.5])))
    [number] = caffemodel.read(path)["a"]
    assert number.shape == ()
    assert number == 7.5


def test_a_name_may_follow_its_blobs(path: Path) -> None:
    path.write_bytes(bytes_field(100, bytes_field(7, shape_field(1) + floats([3.0])) + bytes_field(1, b"late")))
    assert caffemodel.read(path)["late"][0].tolist() == [3.0]


def test_unknown_fields_of_every_wire_type_are_stepped_over(path: Path) -> None:
    noise = (
        number_field(999, 2**63) + tag(998, 1) + b"8 bytes." + bytes_field(997, b"\xff" * 200) + tag(996, 5) + b"four"
    )
    gradient = bytes_field(6, b"\0" * 8) + bytes_field(9, b"\0" * 16)
    blob = noise + floats([1.0, 2.0]) + noise + gradient + bytes_field(7, noise + bytes_field(1, b"\x02") + noise)
    layer = noise + bytes_field(1, b"conv1_1") + noise + bytes_field(2, b"Convolution") + bytes_field(7, blob) + noise
    path.write_bytes(noise + bytes_field(100, layer) + noise)
    assert caffemodel.read(path)["conv1_1"][0].tolist() == [1.0, 2.0]


def test_unpacked_numbers_end_where_another_field_begins(path: Path) -> None:
    lookalikes = bytes_field(20, tag(5, 5) * 50)
    path.write_bytes(layer_of("a", floats([1.0, 2.0], packed=False) + lookalikes + shape_field(2)))
    assert caffemodel.read(path)["a"][0].tolist() == [1.0, 2.0]


def test_nesting_is_never_followed(path: Path) -> None:
    deep = b""
    for _ in range(3000):
        deep = bytes_field(100, deep)  # a layer in a layer in a layer
    path.write_bytes(deep + layer_of("a", shape_field(1) + floats([1.0])) + bytes_field(24, deep))
    assert list(caffemodel.read(path)) == ["a"]


def test_large_numbers_take_little_more_than_their_own_memory(path: Path) -> None:
    values = numbers(1000, 1000)
    for packed in (True, False):
        path.write_bytes(net_of({"fc7": [values]}, packed=packed))
        tracemalloc.start()
        layers = caffemodel.read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.array_equal(layers["fc7"][0], values)
        assert peak < (1.02 if packed else 1.3) * values.nbytes  # unpacked: and a byte a number, for its tag


# -- what a file may not hold ---------------------------------------------------------------------

GOOD = shape_field(2) + floats([1.0, 2.0])
HOSTILE = {
    "values shorter than their length": (
        shape_field(2) + tag(5, 2) + varint(9) + b"\0" * 8,
        "9 bytes where 8 are left",
    ),
    "a length of 2^31": (shape_field(2) + tag(5, 2) + varint(2**31) + b"\0" * 8, "2147483648 bytes where 8"),
    "a length of 2^64 - 1": (
        shape_field(2) + tag(5, 2) + varint(2**64 - 1) + b"\0" * 8,
        "18446744073709551615 bytes",
    ),
    "half a value": (shape_field(2) + bytes_field(5, b"\0" * 7), "values of 7 bytes"),
    "half an unpacked value": (shape_field(1) + tag(5, 5) + b"\0\0", "4 bytes where 2 are left"),
    "too few values": (shape_field(3) + floats([1.0, 2.0]), r"shape \[3\] has 2 values"),
    "too many values": (shape_field(1, 1) + floats([1.0, 2.0]), r"shape \[1, 1\] has 2 values"),
    "no values": (shape_field(2), "without values"),
    "no values in no room": (shape_field() + floats([]), r"shape \[\] has 0 values"),
    "no shape": (floats([1.0]), r"shape \[0, 0, 0, 0\] has 1 values"),
    "nothing": (b"", "without values"),
    "no values and no shape": (floats([]), r"shape \[0, 0, 0, 0\] has 0 values"),
    "an old shape with three sides": (old_shape(1, 2)[2:] + floats([1.0, 2.0]), r"\[0, 1, 1, 2\] has 2"),
    "a side of 0": (shape_field(0) + floats([]), "a side of 0"),
    "a negative side": (shape_field(-2, -1) + floats([1.0, 2.0]), "a side of -2"),
    "a negative old side": (old_shape(-1, -2) + floats([1.0, 2.0]), "a side of -1"),
    "a side of 2^31": (shape_field(2**31) + floats([1.0]), "a side of 2147483648"),
    "sides whose product overflows 64 bits to 0": (shape_field(*[2**16] * 4) + floats([]), "has 0 values"),
    "sides whose product overflows to 2": (
        shape_field(2**30, 2**30, 8, 2) + floats([1.0, 2.0]),
        "has 2 values",
    ),
    "too many axes": (shape_field(*[1] * 33) + floats([1.0]), "has 1 values"),
    "too many axes, unpacked": (shape_field(*[1] * 5000, packed=False) + floats([1.0]), "has 1 values"),
    "two shapes": (shape_field(2) + GOOD, "field 7 of a blob is duplicated"),
    "an old and a new shape": (old_shape(2) + GOOD, "two kinds"),
    "an old side twice": (
        old_shape(2) + old_shape(2) + floats([1.0, 2.0]),
        "field 1 of a blob is duplicated",
    ),
    "values packed, then unpacked": (
        shape_field(2) + floats([1.0]) + floats([2.0], False),
        "field 5 .* duplicated",
    ),
    "values unpacked, then packed": (
        shape_field(2) + floats([1.0], False) + floats([2.0]),
        "field 5 .* duplicated",
    ),
    "values in two rows": (floats([1.0], False) + shape_field(2) + floats([2.0], False), "field 5 .* duplicated"),
    "values in two packs": (shape_field(2) + floats([1.0]) + floats([2.0]), "field 5 .* duplicated"),
    "values of both precisions": (GOOD + doubles([1.0, 2.0]), "two kinds of values"),
    "values that are an integer": (shape_field(1) + number_field(5, 1), "field 5 has wire type 0"),
    "singles where doubles belong": (shape_field(1) + tag(8, 5) + b"\0" * 4, "field 8 has wire type 5"),
    "a shape that is an integer": (number_field(7, 2) + floats([1.0, 2.0]), "field 7 has wire type 0"),
    "sides that are floats": (
        bytes_field(7, tag(1, 5) + b"\0" * 4) + floats([1.0]),
        "field 1 has wire type 5",
    ),
    "an old side that is bytes": (bytes_field(1, b"\x02") + floats([1.0, 2.0]), "field 1 has wire type 2"),
    "a group": (GOOD + tag(20, 3) + tag(20, 4), "field 20 of wire type 3"),
    "the end of a group": (GOOD + tag(20, 4), "field 20 of wire type 4"),
    "a wire type that does not exist": (GOOD + tag(20, 7), "field 20 of wire type 7"),
    "field 0": (GOOD + number_field(0, 1), "field 0 of wire type 0"),
    "field 2^29": (GOOD + number_field(2**29, 1), "field 536870912"),
    "an integer of eleven bytes": (
        GOOD + tag(20, 0) + b"\x80" * 10 + b"\x01",
        "not a varint of at most 64 bits",
    ),
    "an eleventh byte that adds nothing": (
        GOOD + tag(20, 0) + b"\x80" * 10 + b"\x00",
        "not a varint of at most 64 bits",
    ),
    "an integer of 65 bits": (GOOD + tag(20, 0) + b"\xff" * 9 + b"\x02", "not a varint of at most 64 bits"),
    "an integer without an end": (GOOD + tag(20, 0) + b"\x80", "not a varint of at most 64 bits"),
    "a tag without a field": (GOOD + tag(20, 0), "not a varint of at most 64 bits"),
    "a side without an end": (bytes_field(7, bytes_field(1, b"\x80")) + floats([1.0]), "not a varint"),
}


@pytest.mark.parametrize("old", [True, False], ids=["old", "new"])
@pytest.mark.parametrize(("blob", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_blob_is_refused_that_has(path: Path, blob: bytes, reason: str, old: bool) -> None:
    message = refused(path, layer_of("a", GOOD, blob, old=old))
    assert message.startswith(f"{path} is not a readable .caffemodel: byte ")
    assert re.search(reason, message)


def test_a_refusal_names_the_byte(path: Path) -> None:
    # Bytes 0-4: the net's name; 5-7: a layer's tag and length; 8-10: its name; 11-12: its blob's tag and length.
    start = bytes_field(1, b"net") + bytes_field(100, bytes_field(1, b"a") + bytes_field(7, GOOD + tag(3, 3)))
    assert start.index(GOOD) == 13
    assert f"byte {13 + len(GOOD)}: field 3 of wire type 3" in refused(path, start)
    assert "byte 5: field 100 has 21 bytes where 20 are left" in refused(path, start[:-1])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (layer_of(b"\xff\xfe", GOOD), "not UTF-8"),
        (layer_of(b"\xff\xfe"), "not UTF-8"),
        (layer_of("", GOOD), "an empty one"),
        (bytes_field(100, bytes_field(7, GOOD)), "has 0 names"),
        (bytes_field(100, bytes_field(1, b"a") * 2 + bytes_field(7, GOOD)), "has 2 names"),
        (layer_of("a" * 257, GOOD), "a name of 257 bytes"),
        (layer_of("a\nb", GOOD) * 2, r"a second layer 'a\\nb' with blobs"),
        (layer_of("a", GOOD) + layer_of("a", GOOD, old=True), "a second layer 'a' with blobs"),
        (bytes_field(100, number_field(1, 3) + bytes_field(7, GOOD)), "field 1 has wire type 0"),
        (bytes_field(100, bytes_field(1, b"a") + number_field(7, 3)), "field 7 has wire type 0"),
        (number_field(100, 3), "field 100 has wire type 0"),
        (number_field(2, 3), "field 2 has wire type 0"),
        (layer_of("a") + layer_of("b"), "no layer has blobs"),
        (layer_of("a", GOOD) + b"\0", "field 0"),
        (layer_of("a", GOOD) + tag(100, 2) + varint(2**31) + b"\0", "2147483648 bytes where 1 are left"),
        (b"<!DOCTYPE html><html><title>404</title></html>", "byte 0: field 7 of wire type 4"),
        (b"", "0 bytes"),
    ],
)
def test_a_net_is_refused_for_its_names_and_layers(path: Path, content: bytes, reason: str) -> None:
    assert re.search(reason, refused(path, content))


def test_a_layer_without_blobs_may_share_its_name(path: Path) -> None:
    path.write_bytes(layer_of("a") + layer_of("a", GOOD) + layer_of("a"))
    assert list(caffemodel.read(path)) == ["a"]


def test_a_missing_file_a_folder_and_one_beyond_protobufs_limit_are_refused(path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        caffemodel.read(path)
    with pytest.raises(UserError, match="is missing"):
        caffemodel.read(path.parent)
    with path.open("wb") as file:
        file.truncate(2**31)  # sparse: it takes no room
    with pytest.raises(UserError, match="2147483648 bytes"):
        caffemodel.read(path)


@pytest.mark.parametrize("length", [10**4, 2**31 - 1, 2**31, 2**40, 2**63, 2**64 - 1])
def test_a_lying_length_takes_no_memory(path: Path, length: int) -> None:
    name, blob = bytes_field(1, b"a"), shape_field(2)
    lies = [
        bytes_field(100, b"", length=length),
        bytes_field(100, bytes_field(1, b"a", length=length)),
        bytes_field(100, name + bytes_field(7, blob, length=length)),
        bytes_field(100, name + bytes_field(7, blob + bytes_field(5, b"\0" * 8, length=length))),
        bytes_field(100, name + bytes_field(7, blob + bytes_field(8, b"\0" * 8, length=length))),
        bytes_field(100, name + bytes_field(7, bytes_field(7, b"\x08\x02", length=length))),
        bytes_field(100, name + bytes_field(7, bytes_field(7, bytes_field(1, b"\x02", length=length)))),
        layer_of("a", shape_field(length) + floats([1.0, 2.0])),
        layer_of("a", shape_field(2**31 - 1, 2**31 - 1) + floats([1.0, 2.0])),
        layer_of("a", old_shape(2**31 - 1, 2**31 - 1) + floats([1.0, 2.0])),
    ]
    for lie in lies:
        tracemalloc.start()
        refused(path, lie)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x00" * 200_000,  # nothing but small fields
        bytes_field(100, b"\x08\x00" * 200_000),
        layer_of("a", b"\x55\0\0\0\0\x5d\0\0\0\0" * 100_000),  # unknown four-byte fields in turn
        layer_of("a", bytes_field(7, bytes_field(1, b"\x01" * 4_000_000)) + GOOD),
        layer_of("a", bytes_field(7, b"\x08\x01" * 200_000) + GOOD),
        layer_of("a", *[GOOD] * 50_000),
    ],
    ids=["net", "layer", "blob", "sides", "unpacked sides", "blobs"],
)
def test_noise_is_refused_in_seconds_and_in_the_files_own_memory(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    tracemalloc.start(1)
    begin = time.process_time()
    with pytest.raises(UserError):
        caffemodel.read(path)
    seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 20
    assert peak < 20e6


def test_a_damaged_file_is_refused_or_read_with_right_shapes(path: Path) -> None:
    old = {"conv1_1": [numbers(2, 1, 3, 1), numbers(2)], "conv1_2": [numbers(5, 1, 1, 1)]}
    new = {"fc6": [numbers(3, 2, 1, 1), numbers(3)], "score_fr": [numbers(7)]}
    content = (
        net_of(old, old=True) + net_of(new) + layer_of("upscore", shape_field(1, 4) + doubles([1, 2, 3, 4], False))
    )
    shapes = [(2, 1, 3, 1), (1, 1, 1, 2), (5, 1, 1, 1), (3, 2, 1, 1), (3,), (7,), (1, 4)]
    draw = random.Random(0)
    damaged = [content[:size] for size in range(len(content))]
    for at in range(len(content)):
        flips = [content[at] ^ 1 << bit for bit in range(8)] + [draw.randrange(256) for _ in range(2)]
        damaged += [content[:at] + bytes([byte]) + content[at + 1 :] for byte in flips]
    assert len(damaged) > 2000
    read = 0
    for bad in damaged:
        path.write_bytes(bad)
        layers, message = attempt(path)
        assert "\n" not in message
        read += not message
        left = iter(shapes)  # a layer may be lost, and its neighbours keep their order
        assert all(blob.shape in left for blobs in layers.values() for blob in blobs)
    assert 0 < read < len(damaged)
