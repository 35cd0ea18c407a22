"""Model files, and the paper's staged initialisation."""

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

from fcn.datasets.sources.scenes import LABELS
from fcn.models import FCN, weights
from fcn.models.layers import CAFFE, TORCHVISION
from fcn.runtime import files
from fcn.runtime.errors import UserError, is_full


def meta(**changes: object) -> weights.Meta:
    architecture = {"num_classes": 8, "stride": 32, "backbone": "slim", "pad": "same"}
    facts = {"parent": "ab" * 32, "published": None, "iterations": 3, "threads": 2, "params": {"lr": 0.001}}
    return weights.Meta(
        **{"architecture": architecture, "preprocessing": TORCHVISION, "labels": LABELS} | facts | changes
    )


def backbone() -> weights.State:
    return {k: v for k, v in FCN(1, 32, "slim").state_dict().items() if not k.startswith("score")}


def start(stride: int, parent: weights.State, **settings: str) -> tuple[FCN, dict[str, str]]:
    net = FCN(8, stride, "slim", pad="same", preprocessing=TORCHVISION, **settings)
    table = weights.transplant(net, parent, init_std=0.0, generator=torch.Generator())
    return net, dict(table)


def test_32s_carries_the_backbone_and_starts_its_scores_at_zero() -> None:
    parent = backbone()
    net, table = start(32, parent)
    assert [layer for layer, fate in table.items() if fate == "created"] == ["score_fr"]
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in parent.items())
    assert not net.score_fr.weight.any()
    assert not net.score_fr.bias.any()


def test_each_finer_rung_creates_one_score_layer_and_keeps_the_coarse_scores() -> None:
    coarse, _ = start(32, backbone())
    torch.nn.init.normal_(coarse.score_fr.weight)
    middle, table16 = start(16, coarse.state_dict())
    fine, table8 = start(8, middle.state_dict())
    assert [layer for layer, fate in table16.items() if fate == "created"] == ["score_pool4"]
    assert [layer for layer, fate in table8.items() if fate == "created"] == ["score_pool3"]
    assert torch.equal(fine.score_fr.weight, coarse.score_fr.weight)
    assert not fine.score_pool3.weight.any()


def test_learned_upsampling_is_created_bilinear_and_the_coarser_one_is_dropped() -> None:
    coarse, _ = start(32, backbone(), upsampling="learned")
    middle, table = start(16, coarse.state_dict(), upsampling="learned")
    assert table["upscore"] == "dropped"
    assert table["upscore2"] == table["upscore16"] == "created"
    assert middle.upscore2.weight[0, 0, 1].tolist() == [0.1875, 0.5625, 0.5625, 0.1875]


def test_new_score_layers_can_be_drawn() -> None:
    net = FCN(8, 32, "slim", pad="same")
    weights.transplant(net, backbone(), init_std=0.02, generator=torch.Generator().manual_seed(0))
    assert net.score_fr.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_surprise_in_the_parent_is_refused_and_listed() -> None:
    parent = backbone()
    del parent["conv3_2.weight"], parent["conv3_2.bias"]
    parent["conv9_9.weight"] = torch.zeros(1)
    parent["fc7.bias"] = torch.zeros(3)
    with pytest.raises(UserError) as caught:
        start(32, parent)
    assert "conv3_2 is new; conv9_9 is unknown; fc7.bias is (3,), not (512,)" in str(caught.value)


def test_8s_does_not_start_from_32s() -> None:
    coarse, _ = start(32, backbone())
    with pytest.raises(UserError, match="FCN-8s cannot start from these weights: score_pool4 is new"):
        start(8, coarse.state_dict())


def test_a_model_file_gives_back_net_and_facts(tmp_path: Path) -> None:
    net, _ = start(32, backbone())
    torch.nn.init.normal_(net.score_fr.weight)
    weights.save(tmp_path / "a.safetensors", net.state_dict(), meta())
    loaded, facts = weights.build(tmp_path / "a.safetensors")
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    assert torch.equal(loaded(image), net.eval()(image))
    assert facts == meta()


def test_the_same_net_gives_the_same_bytes_under_another_name(tmp_path: Path) -> None:
    state = backbone()
    weights.save(tmp_path / "a.safetensors", state, meta())
    weights.save(tmp_path / "b.safetensors", dict(reversed(state.items())), meta())
    assert files.sha256(tmp_path / "a.safetensors") == files.sha256(tmp_path / "b.safetensors")


def test_preprocessing_is_part_of_the_file(tmp_path: Path) -> None:
    weights.save(tmp_path / "a.safetensors", backbone(), meta(preprocessing=CAFFE))
    assert weights.load(tmp_path / "a.safetensors")[1].preprocessing == CAFFE


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
    weights.save(path, backbone(), meta())
    path.write_bytes(damaged(path.read_bytes())[kind])
    with pytest.raises(UserError, match="is not a model file of this project") as caught:
        weights.load(path)
    assert "\n" not in str(caught.value)


def test_whichever_bit_of_a_model_file_flips_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    weights.save(path, {"conv.weight": torch.randn(2, 3, 3, 3), "bn.count": torch.tensor(7)}, meta())
    whole = path.read_bytes()
    length = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = random.Random(1)
    places = [*range(8), *range(length, len(whole)), *(rng.randrange(length) for _ in range(800))]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(UserError, match="a.safetensors is (damaged|not a model file)") as caught:
            weights.load(path)
        assert str(caught.value).isprintable()


def test_a_bit_that_flips_in_the_weights_is_told_from_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    weights.save(path, backbone(), meta())
    changed = bytearray(path.read_bytes())
    changed[-100] ^= 1
    path.write_bytes(changed)
    for read in (weights.load, weights.build):
        with pytest.raises(UserError, match="a.safetensors is damaged: its content does not match its sha256; run"):
            read(path)


def test_an_older_file_is_read_without_a_digest_and_with_the_name_alone_of_what_was_published(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    weights.save(path, backbone(), meta())
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["fcn"])
    del facts["sha256"], facts["scale"]
    facts["published"] = "fcn32s-heavy-pascal"
    header["__metadata__"]["fcn"] = json.dumps(facts)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    assert weights.load(path)[1] == replace(meta(), published=weights.Published("fcn32s-heavy-pascal"))


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
    weights.save(path, small, meta())
    before = path.read_bytes()
    with pytest.raises(OSError, match="File too large") as caught:
        weights.save(path, backbone(), meta())
    assert is_full(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
