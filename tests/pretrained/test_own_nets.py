"""Initialization from one's own trained nets: one net, or a late fusion of nets of one input each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Checkout
from model_files import META, noise
from torch import Tensor

from fcn.data.depth import UNKNOWN
from fcn.datasets.label_maps import SCENES
from fcn.ladder import LADDER
from fcn.models import FCN, LateFusion, build
from fcn.models.layers import CAFFE, TORCHVISION, Preprocessing
from fcn.pretrained import published
from fcn.rungs import initialization
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError
from fcn.weights import model_file

COLOUR, DEPTH = {"rgb": 3}, {"depth": 1}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose data/own has no nets yet."""
    monkeypatch.setattr(machine, "root", lambda: tmp_path)
    (tmp_path / "data/own").mkdir(parents=True)
    return tmp_path


def own_net(
    root: Path, name: str, inputs: dict[str, int], seed: int = 1, base: Preprocessing = TORCHVISION, **changes: Any
) -> FCN:
    """Writes data/own/NAME.safetensors: an FCN-32s as the stage train writes it, with random scores."""
    torch.manual_seed(seed)
    architecture = {"num_classes": 8, "stride": 32, "backbone": "slim", "at_once": False, "pad": "same",
                    "upsampling": "fixed", "dropout": 0.5} | changes  # fmt: skip
    if inputs != COLOUR:
        architecture["inputs"] = inputs
    preprocessing = base.extended(inputs)
    net = build(**architecture, preprocessing=preprocessing).eval()
    for key, tensor in net.named_parameters():
        if key.startswith("score"):
            torch.nn.init.normal_(tensor)
    labels = SCENES if architecture["num_classes"] == 8 else None
    meta = replace(META, architecture=architecture, preprocessing=preprocessing, labels=labels)
    model_file.save(root / f"data/own/{name}.safetensors", net.state_dict(), meta)
    assert isinstance(net, FCN)
    return net


def image() -> Tensor:
    colours = torch.from_numpy(np.array(noise(40, 50))).permute(2, 0, 1)[None]
    depth = torch.arange(50 * 40, dtype=torch.int64).reshape(1, 1, 50, 40) % 255 + UNKNOWN
    return torch.cat([colours, depth.to(torch.uint8)], 1)


def test_a_late_fusion_of_two_own_nets_scores_the_mean_of_theirs(root: Path) -> None:
    colour, depth = own_net(root, "colour", COLOUR, 1), own_net(root, "my-depth", DEPTH, 2)
    published.check("colour+my-depth", 32, "slim", False, 8, ["rgb", "depth"], "late")
    out = root / "out.safetensors"
    published.make("colour+my-depth", out)
    meta = model_file.facts(out)
    digests = [files.sha256(root / f"data/own/{name}.safetensors") for name in ("colour", "my-depth")]
    assert meta.published == model_file.joined(
        [model_file.Published(name, digest) for name, digest in zip(("colour", "my-depth"), digests, strict=True)]
    )
    architecture = meta.architecture | {"inputs": {**COLOUR, **DEPTH}, "fusion": "late"}
    ours = build(**architecture, preprocessing=TORCHVISION.extended({**COLOUR, **DEPTH})).eval()
    initialization.fill(ours, architecture, "colour+my-depth", out)
    assert isinstance(ours, LateFusion)
    both = image()
    with torch.no_grad():
        expected = (colour(both[:, :3]) + depth(both[:, 3:])) / 2
        assert torch.allclose(ours(both), expected, atol=1e-5)
    assert expected.std() > 0.1


def test_one_own_net_fills_every_layer(root: Path) -> None:
    theirs = own_net(root, "mine", COLOUR, upsampling="learned")
    published.check("mine", 32, "slim", False, 8, ["rgb"])
    published.make("mine", root / "out.safetensors")
    state, _ = model_file.load(root / "out.safetensors")
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.state_dict().items())


def test_a_net_that_was_replaced_since_its_first_use_is_refused(root: Path) -> None:
    own_net(root, "mine", COLOUR, 1)
    published.make("mine", root / "out.safetensors")
    own_net(root, "mine", COLOUR, 2)
    for use in (lambda: published.make("mine", root / "out.safetensors"), lambda: published.check("mine", 32, "slim")):
        with pytest.raises(
            UserError, match=r"own/mine.safetensors differs from the file that was used first: .* delet"
        ):
            use()


def test_a_net_of_other_classes_is_refused_although_it_has_as_many(root: Path) -> None:
    own_net(root, "mine", COLOUR)
    published.check("mine", 32, "slim", False, 8, ["rgb"], names=SCENES.names)
    first, second, *others = SCENES.names
    with pytest.raises(UserError, match=f"^mine was trained on other classes: {first} in the place of {second}$"):
        published.check("mine", 32, "slim", False, 8, ["rgb"], names=[second, first, *others])


@pytest.mark.parametrize(
    ("init", "line"),
    [
        ("none-such", r"init is 'none-such'; choose from .*, or put a net of your own into data/own/none-such.safet"),
        ("colour+none-such", "put a net of your own into data/own/none-such.safetensors"),
        ("colour+colour", "init is colour.colour: a late fusion joins nets of one input each, all different"),
        ("colour+classes", "a late fusion joins nets of one input each, all different, with the same stride and class"),
        ("colour+caffe", "init is colour.caffe: the nets were trained with different model.preprocessing"),
        ("colour+fcn32s-heavy-pascal", "a late fusion joins nets of one input each"),
        ("backbone", "backbone.safetensors holds a backbone, not a net"),
        ("broken", "broken.safetensors is not a model file of this project"),
        ("fine", "fine is FCN-8s and cannot initialize FCN-32s"),
        ("classes", "classes scores 7 classes of your own data, the data set has 8"),
        ("colour", "colour expects data.inputs: rgb"),
    ],
)
def test_own_nets_that_do_not_fit_are_refused_in_one_line(root: Path, init: str, line: str) -> None:
    own_net(root, "colour", COLOUR)
    own_net(root, "classes", DEPTH, num_classes=7)
    own_net(root, "caffe", DEPTH, base=CAFFE)
    own_net(root, "fine", COLOUR, stride=8)
    meta = replace(META, architecture={"backbone": "slim"})
    model_file.save(root / "data/own/backbone.safetensors", {"a": torch.zeros(1)}, meta)
    (root / "data/own/broken.safetensors").write_bytes(b"no net")
    with pytest.raises(UserError, match=line) as caught:
        published.check(init, 32, "slim", False, 8, ["rgb", "depth"], "late")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_two_own_nets_become_the_trunks_of_a_late_fusion_in_the_pipeline(checkout: Checkout) -> None:
    for inputs in ("rgb", "infrared"):
        checkout.set(**{"data.inputs": inputs})
        checkout.run("dvc", "repro", "train")
        checkout.run("cp", f"data/weights/{LADDER[0].name}.safetensors", f"data/own/{inputs}.safetensors")
        checkout.run("dvc", "add", f"data/own/{inputs}.safetensors")
    changes = {
        "data.inputs": "rgb+infrared",
        "model.fusion": "late",
        "train.init": "rgb+infrared",
        "train.iterations": 0,
    }
    checkout.set(**changes)
    checkout.run("fcn", "check")
    checkout.run("dvc", "repro", "train")
    state, meta = model_file.load(checkout.folder / "data/weights/fcn32s.safetensors")
    for inputs in ("rgb", "infrared"):
        trunk, _ = model_file.load(checkout.folder / f"data/own/{inputs}.safetensors")
        assert all(torch.equal(state[f"{inputs}.{name}"], tensor) for name, tensor in trunk.items())
        digest = files.sha256(checkout.folder / f"data/own/{inputs}.safetensors")
        assert checkout.read(f"data/pins/weights/{inputs}.sha256") == f"{digest}  {inputs}\n"
    assert meta.published is not None
    assert meta.published.name == "rgb+infrared"
    assert "data/own/rgb.safetensors.dvc" in checkout.run("git", "status", "--short", "--untracked-files=all")
