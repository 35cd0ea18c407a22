"""Net surgery: the paper's staged initialization."""

import pytest
import torch
from model_files import slim_backbone

from fcn.models import FCN, State, surgery
from fcn.models.layers import TORCHVISION
from fcn.runtime.errors import UserError


def start(stride: int, parent: State, **settings: str) -> tuple[FCN, dict[str, str]]:
    net = FCN(8, stride, "slim", pad="same", preprocessing=TORCHVISION, **settings)
    table = surgery.transplant(net, parent, init_std=0.0, generator=torch.Generator())
    return net, dict(table)


def test_32s_carries_the_backbone_and_starts_its_scores_at_zero() -> None:
    parent = slim_backbone()
    net, table = start(32, parent)
    assert [layer for layer, fate in table.items() if fate == "created"] == ["score_fr"]
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in parent.items())
    assert not net.score_fr.weight.any()
    assert not net.score_fr.bias.any()


def test_each_finer_rung_creates_one_score_layer_and_keeps_the_coarse_scores() -> None:
    coarse, _ = start(32, slim_backbone())
    torch.nn.init.normal_(coarse.score_fr.weight)
    middle, table16 = start(16, coarse.state_dict())
    fine, table8 = start(8, middle.state_dict())
    assert [layer for layer, fate in table16.items() if fate == "created"] == ["score_pool4"]
    assert [layer for layer, fate in table8.items() if fate == "created"] == ["score_pool3"]
    assert torch.equal(fine.score_fr.weight, coarse.score_fr.weight)
    assert not fine.score_pool3.weight.any()


def test_learned_upsampling_is_created_bilinear_and_the_coarser_one_is_dropped() -> None:
    coarse, _ = start(32, slim_backbone(), upsampling="learned")
    middle, table = start(16, coarse.state_dict(), upsampling="learned")
    assert table["upscore"] == "dropped"
    assert table["upscore2"] == table["upscore16"] == "created"
    assert middle.upscore2.weight[0, 0, 1].tolist() == [0.1875, 0.5625, 0.5625, 0.1875]


def test_new_score_layers_can_be_drawn() -> None:
    net = FCN(8, 32, "slim", pad="same")
    surgery.transplant(net, slim_backbone(), init_std=0.02, generator=torch.Generator().manual_seed(0))
    assert net.score_fr.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_surprise_in_the_parent_is_refused_and_listed() -> None:
    parent = slim_backbone()
    del parent["conv3_2.weight"], parent["conv3_2.bias"]
    parent["conv9_9.weight"] = torch.zeros(1)
    parent["fc7.bias"] = torch.zeros(3)
    with pytest.raises(UserError) as caught:
        start(32, parent)
    assert "conv3_2 is new; conv9_9 is unknown; fc7.bias is (3,), not (512,)" in str(caught.value)


def test_8s_does_not_start_from_32s() -> None:
    coarse, _ = start(32, slim_backbone())
    with pytest.raises(UserError, match="FCN-8s cannot start from these weights: score_pool4 is new"):
        start(8, coarse.state_dict())
