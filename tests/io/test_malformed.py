"""Files that others wrote, or a broken disk: refused in one line, or read correctly. See also `make malformed`."""

import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from makers import archive_refusal
from PIL import Image

from fcn.data.split import Split
from fcn.datasets import resizing
from fcn.datasets.label_maps import SCENES
from fcn.datasets.sources import Sample
from fcn.io import extraction
from fcn.models.layers import CAFFE
from fcn.runtime.errors import UserError
from fcn.weights import model_file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.json", b'{"sky": [70, 130, 180]'),  # found by mutation: cut off
        ("classes.json", b'{"sky": [70, 130, 18\xff0]}'),
        ("classes.json", b'{"sky": [70, 130]}'),
        ("classes.json", b'{"sky": [70, 130, 1e3]}'),
        ("classes.json", b'["sky"]'),
        ("classes.json", b"{}"),
        ("classes.json", b"[" * 100_000),
        ("train.csv", b""),
        ("train.csv", b"id,hei\xffght\n"),
        ("train.csv", b"id,height\na,1,2,3\n"),
        ("train.csv", b"id,height\n"),
    ],
)
def test_a_damaged_index_or_list_of_classes_is_refused_in_one_line(
    name: str, content: bytes, packed: Path, tmp_path: Path
) -> None:
    for path in packed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="run `dvc repro resize`") as caught:
        Split(tmp_path, "train")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["height", "width", "mask_height", "mask_width"])
@pytest.mark.parametrize("value", [0, 1 << 62])
def test_an_index_of_sides_that_no_picture_has_is_refused(
    column: str, value: int, packed: Path, tmp_path: Path
) -> None:
    for path in packed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    heads, first, *rows = (packed / "train.csv").read_text().splitlines()
    cells = first.split(",")
    cells[heads.split(",").index(column)] = str(value)
    (tmp_path / "train.csv").write_text("\n".join([heads, ",".join(cells), *rows]) + "\n")
    with pytest.raises(UserError, match="train.csv must hold whole numbers"):
        Split(tmp_path, "train")


def damaged(path: Path, key: str, value: object) -> Path:
    """A model file in which one fact is another."""
    architecture = {"num_classes": 8, "stride": 32, "backbone": "slim", "pad": "same"}
    model_file.save(
        path,
        {"score_fr.weight": torch.zeros(8, 512, 1, 1)},
        model_file.Meta(architecture, CAFFE, SCENES, None, None, 1, 1, {}),
    )
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["fcn"])
    del facts["sha256"]  # as in an older file: what is refused is the fact itself, not that it was changed
    section, _, last = key.rpartition(".")
    (facts[section] if section else facts)[last] = value
    header["__metadata__"]["fcn"] = json.dumps(facts)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture.num_chasses", 8),  # found by mutation
        ("architecture.stride", 7),
        ("architecture.stride", [32]),
        ("architecture.num_classes", 1 << 40),  # would not fit into any memory
        ("architecture.num_classes", "8"),
        ("architecture.dropout", "much"),
        ("architecture", 1),
        ("iterations", "3"),
        ("preprocessing.mean", [1, 2]),
        ("architecture.dropout", 1),
        ("architecture.dropout", float("nan")),
        ("architecture.at_once", 1),
        ("architecture.pad", 99),
        ("architecture.pad", True),
        ("architecture.upsampling", "none"),
        ("architecture.backbone", ["slim"]),
        ("architecture.backbone", "\x1b[2J"),
        ("architecture.num_classes", True),
        ("architecture.num_classes", 7),
        ("preprocessing.order", 3),
        ("preprocessing.order", "R"),
        ("preprocessing.order", "XYZ"),
        ("preprocessing.order", "RGBB"),
        ("preprocessing.scale", 0),
        ("preprocessing.mean", [1, 2, float("nan")]),
        ("preprocessing.std", [1, 0, 1]),
        ("preprocessing.std", [1, 1, float("inf")]),
        ("preprocessing.std", [1, 1, 1e300]),
        ("labels.palette", [[1, 2, 3]]),
        ("labels.palette", [[1, 2, 3]] * 300),
        ("labels.palette", [[1, 2, 256]] * 8),
        ("labels.palette", [[1, 2, -1]] * 8),
        ("labels.names", "sky"),
        ("labels.names", ["sky"] * 8),
        ("labels.names", list("abcdefg")),
        ("labels.names", list("abcdefg\n")),
        ("labels.names", [*"abcdefg", ""]),
        ("labels.names", [*"abcdefg", "h" * 201]),
        ("labels.names", [*"abcdefg", "\x1b[31m"]),
        ("labels", {"names": [], "palette": []}),
        ("labels", {"names": [f"{i}" for i in range(255)], "palette": [[0, 0, 0]] * 255}),
        ("parent", "ab"),
        ("parent", "../" * 16 + "a" * 16),
        ("published", "a b"),
        ("published", "x" * 1000),
        ("iterations", -1),
        ("iterations", 10**4000),
        ("threads", 0),
        ("processes", 1 << 40),
        ("digests", {"final": "a" * 64}),
        ("digests", {"1": "a" * 63}),
        ("digests", {"9" * 5000: "a" * 64}),
        ("scale", {"size": "0x5", "tile": "none"}),
        ("scale", {"size": "native", "tile": 3}),
        ("scale", {"size": True, "tile": "none"}),
        ("scale", {"size": 0, "tile": "none"}),
        ("params", [1]),
        ("params", {"a": "x" * (1 << 20)}),
        ("sha256", "a"),
        ("colour", 1),
        ("\x1b]0;x\x07", 1),
    ],
)
def test_a_model_file_with_impossible_facts_is_refused_in_one_line(key: str, value: object, tmp_path: Path) -> None:
    path = damaged(tmp_path / "a.safetensors", key, value)
    with pytest.raises(UserError, match="a.safetensors") as caught:
        model_file.build(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def zipped(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"abc" * 100)
    return path.read_bytes()


def test_a_zip_that_points_before_its_own_beginning_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    whole = bytearray(zipped(path))
    directory = whole.index(b"PK\x05\x06")
    whole[directory + 16 : directory + 20] = b"\xff\xff\xff\x7f"  # where the list of files begins; found by mutation
    path.write_bytes(whole)
    assert "is a broken archive" in archive_refusal(path)


def test_a_zip_with_a_nameless_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    whole = bytearray(zipped(path))
    entry = whole.index(b"PK\x01\x02")
    whole[entry + 46] = 0  # names end at a zero byte; found by mutation
    path.write_bytes(whole)
    assert "is a broken archive" in archive_refusal(path)


def test_an_error_of_the_callers_own_is_not_called_a_broken_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    zipped(path)
    with pytest.raises(RuntimeError, match="mine"), extraction.opened(path):
        raise RuntimeError("mine")


@pytest.mark.filterwarnings("default")
def test_a_picture_that_claims_more_pixels_than_pillow_finds_safe_is_refused_unread(tmp_path: Path) -> None:
    for name, mode in (("image", "RGB"), ("mask", "L")):
        Image.new(mode, (4, 4)).save(tmp_path / f"{name}.bmp")
    whole = bytearray((tmp_path / "image.bmp").read_bytes())
    whole[18:26] = struct.pack("<ii", 18_000, 10_000)  # 180 megapixels: Pillow refuses from 179 on
    (tmp_path / "image.bmp").write_bytes(whole)
    said = resizing.resize(Sample("a", tmp_path / "image.bmp", tmp_path / "mask.bmp"), SCENES, "native", False)
    assert isinstance(said, str)
    assert "has more than 178 million pixels" in said


def test_a_part_of_a_picture_that_claims_gigabytes_gets_none(tmp_path: Path) -> None:
    for name, mode in (("image", "RGB"), ("mask", "L")):
        Image.new(mode, (12, 8)).save(tmp_path / f"{name}.png")
    whole = (tmp_path / "mask.png").read_bytes()
    part = whole.index(b"IDAT") - 4  # its length stands before it; found by mutation
    (tmp_path / "mask.png").write_bytes(whole[:part] + b"\xff" + whole[part + 1 :])
    tracemalloc.start()
    try:
        resizing.resize(Sample("a", tmp_path / "image.png", tmp_path / "mask.png"), SCENES, "native", False)
        assert tracemalloc.get_traced_memory()[1] < 1 << 28
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_hundreds_of_malformed_files_are_each_refused_in_one_line_or_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "stress.malformed", "--files", "800", "--json", tmp_path / "found"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found").read_text())
    assert found["files"] == 800
    for name, counts in found["targets"].items():
        assert counts["refused"] > 0, f"no mutation damaged {name}"
        assert counts["read"] > 0, f"every mutation damaged {name}"
