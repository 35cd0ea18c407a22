"""Model files."""

import json
import random
import resource
import signal
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_files import slim_backbone

from fcn.datasets.sources.scenes import LABELS
from fcn.models import FCN
from fcn.models.layers import CAFFE, TORCHVISION
from fcn.runtime import files
from fcn.runtime.errors import UserError, is_full
from fcn.weights import model_file


def meta(**changes: object) -> model_file.Meta:
    architecture = {"num_classes": 8, "stride": 32, "backbone": "slim", "pad": "same"}
    facts = {"parent": "ab" * 32, "published": None, "iterations": 3, "threads": 2, "params": {"lr": 0.001}}
    return model_file.Meta(
        **{"architecture": architecture, "preprocessing": TORCHVISION, "labels": LABELS} | facts | changes
    )


def test_a_model_file_gives_back_net_and_facts(tmp_path: Path) -> None:
    net = FCN(8, 32, "slim", pad="same", preprocessing=TORCHVISION)
    torch.nn.init.normal_(net.score_fr.weight)
    model_file.save(tmp_path / "a.safetensors", net.state_dict(), meta())
    loaded, facts = model_file.build(tmp_path / "a.safetensors")
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    assert torch.equal(loaded(image), net.eval()(image))
    assert facts == meta()


def test_the_same_net_gives_the_same_bytes_under_another_name(tmp_path: Path) -> None:
    state = slim_backbone()
    model_file.save(tmp_path / "a.safetensors", state, meta())
    model_file.save(tmp_path / "b.safetensors", dict(reversed(state.items())), meta())
    assert files.sha256(tmp_path / "a.safetensors") == files.sha256(tmp_path / "b.safetensors")


def test_preprocessing_is_part_of_the_file(tmp_path: Path) -> None:
    model_file.save(tmp_path / "a.safetensors", slim_backbone(), meta(preprocessing=CAFFE))
    assert model_file.load(tmp_path / "a.safetensors")[1].preprocessing == CAFFE


def damaged(whole: bytes) -> dict[str, bytes]:
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    bare = json.dumps({k: v for k, v in header.items() if k != "__metadata__"}).encode()
    return {
        "empty": b"",
        "truncated": whole[:-1],
        "longer": whole + b"\0",
        "headless": whole[:4],
        "lying": struct.pack("<Q", 1 << 62) + whole[8:],
        "foreign": struct.pack("<Q", len(bare)) + bare + whole[8 + length :],
        "text": b"hello, this is no model",
    }


@pytest.mark.parametrize("kind", damaged(struct.pack("<Q", 2) + b"{}"))
def test_a_damaged_or_foreign_file_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model_file.save(path, slim_backbone(), meta())
    path.write_bytes(damaged(path.read_bytes())[kind])
    with pytest.raises(UserError, match="is not a model file of this project") as caught:
        model_file.load(path)
    assert "\n" not in str(caught.value)


def test_whichever_bit_of_a_model_file_flips_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model_file.save(path, {"conv.weight": torch.randn(2, 3, 3, 3), "bn.count": torch.tensor(7)}, meta())
    whole = path.read_bytes()
    length = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = random.Random(1)
    places = [*range(8), *range(length, len(whole)), *(rng.randrange(length) for _ in range(800))]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(UserError, match="a.safetensors is (damaged|not a model file)") as caught:
            model_file.load(path)
        assert str(caught.value).isprintable()


def test_a_bit_that_flips_in_the_weights_is_told_from_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model_file.save(path, slim_backbone(), meta())
    changed = bytearray(path.read_bytes())
    changed[-100] ^= 1
    path.write_bytes(changed)
    for read in (model_file.load, model_file.build):
        with pytest.raises(UserError, match="a.safetensors is damaged: its content does not match its sha256; run"):
            read(path)


def test_an_older_file_is_read_without_a_digest_and_with_the_name_alone_of_what_was_published(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model_file.save(path, slim_backbone(), meta())
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["fcn"])
    del facts["sha256"], facts["scale"]
    facts["published"] = "fcn32s-heavy-pascal"
    header["__metadata__"]["fcn"] = json.dumps(facts)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    assert model_file.load(path)[1] == replace(meta(), published=model_file.Published("fcn32s-heavy-pascal"))


@pytest.fixture
def _half_a_megabyte() -> Iterator[None]:
    """Files may not grow beyond half a megabyte: what a full disk does to a writer, without one."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("_half_a_megabyte")
def test_a_full_disk_leaves_the_old_model_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    small = {"fc6.weight": torch.ones(3)}
    model_file.save(path, small, meta())
    before = path.read_bytes()
    with pytest.raises(OSError, match="File too large") as caught:
        model_file.save(path, slim_backbone(), meta())
    assert is_full(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
