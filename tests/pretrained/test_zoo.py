"""The 15 nets of the reference, each from a file with the layers of its net.py, at a few channels."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from caffe import Array, blobs_of, net_of
from torch import nn

from fcn import models
from fcn.datasets.label_maps import CONTEXT60, NYUD, SIFTFLOW, SIFTFLOW_GEOMETRIC, VOC
from fcn.experiments import precheck
from fcn.models import FCN, LateFusion
from fcn.models.layers import bilinear_kernel
from fcn.params import Params, load
from fcn.pretrained import importing, published
from fcn.rungs import initialization
from fcn.runtime import files
from fcn.runtime.errors import UserError
from fcn.weights import model_file

ROOT = Path(__file__).parents[2]
KERNELS = {"upscore": 64, "upscore2": 4, "upscore_pool4": 4, "upscore16": 32, "upscore8": 16}
# Names that net.py gives to the score and upsampling layers, and to the first layer where it is unusual.
PLAIN = {
    32: ["score_fr", "upscore"],
    16: ["score_fr", "score_pool4", "upscore2", "upscore16"],
    8: ["score_fr", "score_pool4", "score_pool3", "upscore2", "upscore_pool4", "upscore8"],
}
CLASSES = {"voc": VOC, "siftflow": SIFTFLOW, "nyud": NYUD, "context60": CONTEXT60}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, narrow_vgg16: None, narrow_alexnet: None) -> None:
    """Backbones with a few channels, in an empty checkout that is its own mirror; files of any digest."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
    monkeypatch.setattr(published, "SHA1", {})


def random_net(name: str, seed: int = 0) -> models.Net:
    """The net of a published name with random weights."""
    theirs = published.NETS[name]
    net = models.build(**published.architecture(theirs), preprocessing=theirs.preprocessing).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return net


def layers_of(name: str, net: models.Net) -> dict[str, list[Array]]:
    """The net's layers under the names of the reference's net.py, with the kernels of upsampling."""
    theirs = published.NETS[name]
    layers: dict[str, list[Array]] = {}
    for layer, blobs in blobs_of(net.state_dict()).items():
        prefix, _, own = layer.rpartition(".")
        layers[own + {"": "", "rgb": "color", "hha": "hha"}[prefix]] = blobs
    if "depth" in theirs.inputs:
        layers["conv1_1_bgrd"] = layers.pop("conv1_1")
    for suffix, classes in net.heads.items():
        for layer in PLAIN[theirs.stride]:
            if layer in KERNELS:
                size = KERNELS[layer] if theirs.backbone == "vgg16" else 63
                layers[layer + suffix] = [bilinear_kernel(classes, size).float().numpy()]
    if theirs.at_once:
        layers |= {f"scale_pool{n}": [np.full(n + 1, s, np.float32)] for n, s in ((4, 0.01), (3, 0.0001))}
    return layers


def written(folder: Path, name: str, seed: int = 0) -> models.Net:
    net = random_net(name, seed)
    (folder / f"{name}.caffemodel").write_bytes(net_of(layers_of(name, net)))
    return net


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal but for the order of sums, which depends on the memory format; logits are of the order of 100."""
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-3)


def image(channels: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, channels, 40, 53), dtype=torch.uint8, generator=generator)


def test_there_are_the_15_nets_that_the_references_readme_lists() -> None:
    counts = [len([net for net in published.NETS.values() if net.dataset == data]) for data in CLASSES]
    assert counts == [5, 3, 4, 3]
    assert [name for name, net in published.NETS.items() if not net.offered] == ["nyud-fcn32s-color-d-heavy"]


def test_the_layers_of_unusual_nets_are_those_of_their_net_py() -> None:
    names = {name: set(layers_of(name, random_net(name))) for name in published.NETS}
    trunk = {f"conv{b}_{i}" for b, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)} | {"fc6", "fc7"}
    both = {f"{layer}_{path}" for layer in PLAIN[8] for path in ("sem", "geo")}
    assert names["siftflow-fcn8s-heavy"] == trunk | both
    fused = {f"{layer}{net}" for layer in (*trunk, "score_fr") for net in ("color", "hha")}
    assert names["nyud-fcn32s-color-hha-heavy"] == fused | {"upscore"}
    depth = trunk - {"conv1_1"} | {"conv1_1_bgrd", "score_fr", "upscore"}
    assert names["nyud-fcn32s-color-d-heavy"] == depth
    assert names["pascalcontext-fcn16s-heavy"] == trunk | set(PLAIN[16])


@pytest.mark.parametrize("name", published.NETS)
def test_a_net_is_imported_whole_and_starts_a_rung(tmp_path: Path, name: str) -> None:
    net, theirs = written(tmp_path, name), published.NETS[name]
    out, found = importing.convert(tmp_path / f"{name}.caffemodel", out=tmp_path / "imported.safetensors")
    loaded, meta = model_file.build(out)
    assert (found, meta.labels) == (name, CLASSES[theirs.dataset])
    assert meta.geometric == (SIFTFLOW_GEOMETRIC if theirs.geometric else None)
    seen = image(sum(theirs.inputs.values()))
    with torch.no_grad():
        expected = net(seen)
        assert_close(loaded(seen), expected)
        assert expected.shape == (1, theirs.classes + theirs.geometric, 40, 53)
        published.make(name, tmp_path / "made.safetensors")
        ours = random_net(name, seed=1)
        initialization.fill(ours, published.architecture(theirs), name, tmp_path / "made.safetensors")
        assert_close(ours(seen), expected)


def test_both_score_paths_of_siftflow_are_those_of_nets_with_one_each(tmp_path: Path) -> None:
    net = written(tmp_path, "siftflow-fcn8s-heavy")
    out, _ = importing.convert(tmp_path / "siftflow-fcn8s-heavy.caffemodel", out=tmp_path / "x.safetensors")
    both, state = model_file.build(out)[0](image(3)), net.state_dict()
    for suffix, classes, span in (("_sem", 33, slice(0, 33)), ("_geo", 3, slice(33, 36))):
        one = FCN(classes, 8, preprocessing=published.SIFTFLOW).eval()
        one.load_state_dict(
            {key: state.get(key, state.get(key.replace(".", f"{suffix}."))) for key in one.state_dict()}
        )
        assert_close(both[:, span], one(image(3)))


def test_the_late_fusion_averages_a_colour_net_and_an_hha_net(tmp_path: Path) -> None:
    """Colour is BGR minus (116.190, 97.203, 92.318), HHA is not reversed: load_image and load_hha of nyud_layers.py."""
    net = written(tmp_path, "nyud-fcn32s-color-hha-heavy")
    out, _ = importing.convert(tmp_path / "nyud-fcn32s-color-hha-heavy.caffemodel", out=tmp_path / "x.safetensors")
    both, seen, state = model_file.build(out)[0], image(6), net.state_dict()
    parts = []
    for prefix, name in (("rgb.", "nyud-fcn32s-color-heavy"), ("hha.", "nyud-fcn32s-hha-heavy")):
        one = random_net(name)
        one.load_state_dict({key: state[prefix + key] for key in one.state_dict()})
        parts.append(one)
    expected = (parts[0](seen[:, :3]) + parts[1](seen[:, 3:])) / 2
    assert_close(both(seen), expected)
    grey = torch.tensor([10, 20, 30, 132, 94, 118], dtype=torch.uint8).view(1, 6, 1, 1)
    values = both.preprocessing(grey, torch.float32).flatten().tolist()
    centred = [30 - 116.190, 20 - 97.203, 10 - 92.318, 132 - 132.431, 94 - 94.076, 118 - 118.477]
    assert values == pytest.approx(centred, abs=1e-4)


def test_a_late_fusion_starts_from_two_nets_whose_names_are_joined(tmp_path: Path) -> None:
    """As nyud-fcn32s-color-hha/solve.py transplants both, each with its own mean."""
    names = ("nyud-fcn32s-color-heavy", "nyud-fcn32s-hha-heavy")
    parts = [written(tmp_path, name, seed) for seed, name in enumerate(names)]
    init, made = "+".join(names), tmp_path / "made.safetensors"
    published.make(init, made)
    architecture = published.architecture(published.find_net(init))
    options = {key: value for key, value in architecture.items() if key != "fusion"}
    net = LateFusion(**options, preprocessing=published.NYUD.extended({"rgb": 3, "hha": 3}))
    used = initialization.fill(net.eval(), architecture, init, made)
    seen = image(6)
    expected = (parts[0](seen[:, :3]) + parts[1](seen[:, 3:])) / 2
    assert_close(net(seen), expected)
    digests = "+".join(files.sha256(tmp_path / f"{name}.caffemodel") for name in names)
    assert used == model_file.Published(init, hashlib.sha256(digests.encode()).hexdigest())
    assert model_file.build(made)[1].published == used


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        ("nyud-fcn32s-hha-heavy+nyud-fcn32s-color-heavy", "name the net that takes rgb first"),
        ("nyud-fcn32s-color-heavy+nyud-fcn32s-color-heavy", "joins nets of one input each, all different"),
        ("nyud-fcn32s-color-heavy+fcn32s-heavy-pascal", "joins nets of one input each, all different"),
        ("siftflow-fcn32s-heavy+nyud-fcn32s-hha-heavy", "with the same stride and classes"),
        ("nyud-fcn32s-hha-heavy+nyud-fcn32s-color-d-heavy", "joins nets of one input each"),
        ("nyud-fcn32s-color-heavy+nonsense", r"choose from parent, fcn32s-heavy-pascal, "),
    ],
)
def test_names_that_cannot_be_joined_are_refused(init: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        published.archives(init)
    assert "\n" not in str(caught.value)


def experiment(recipe: str, **changes: object) -> Params:
    """A recipe whose FCN-32s starts from a published net; changes by section and key, joined by two underscores."""
    loaded = load(ROOT / "recipes" / f"{recipe}.yaml")
    for key, value in changes.items():
        section, name = key.split("__")
        changed = getattr(loaded, section).model_copy(update={name: value})
        loaded = loaded.model_copy(update={section: changed})
    return loaded


FUSED = "nyud-fcn32s-color-hha-heavy"


@pytest.mark.parametrize(
    ("recipe", "changes", "reason"),
    [
        ("nyud-color", {"train__init": "nyud-fcn32s-hha-heavy"}, "nyud-fcn32s-hha-heavy expects data.inputs: hha$"),
        ("nyud-hha", {"train__init": "nyud-fcn32s-color-heavy"}, "expects data.inputs: rgb$"),
        ("nyud-rgb-hha", {"train__init": FUSED, "model__fusion": "early"}, "expects model.fusion: late$"),
        ("nyud-rgb-hha", {"train__init": FUSED, "data__inputs": ("hha", "rgb")}, r"expects data.inputs: rgb\+hha$"),
        ("nyud-depth", {"train__init": FUSED}, r"expects data.inputs: rgb\+hha$"),
        (
            "siftflow",
            {"train__init": "siftflow-fcn32s-heavy", "data__labels": "semantic"},
            r"scores 3 geometric classes too; it expects data.labels: semantic\+geometric$",
        ),
        (
            "context59",
            {"train__init": "pascalcontext-fcn32s-heavy"},
            "scores 60 classes of context60, the data set has 59",
        ),
    ],
)
def test_a_net_that_does_not_fit_is_refused_in_a_line_before_anything_runs(
    recipe: str, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        precheck.check_params(experiment(recipe, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "init"),
    [
        ("nyud-color", "nyud-fcn32s-color-heavy"),
        ("nyud-depth", "nyud-fcn32s-color-d-heavy"),
        ("nyud-hha", "nyud-fcn32s-hha-heavy"),
        ("nyud-rgb-hha", FUSED),
        ("nyud-rgb-hha", "nyud-fcn32s-color-heavy+nyud-fcn32s-hha-heavy"),
        ("siftflow", "siftflow-fcn32s-heavy"),
        ("context60", "pascalcontext-fcn32s-heavy"),
    ],
)
def test_the_recipe_of_each_data_set_can_start_from_its_published_nets(recipe: str, init: str) -> None:
    precheck.check_params(experiment(recipe, train__init=init))


def test_a_net_that_was_never_published_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nyud-fcn32s-color-d-heavy was never published; train it, or convert your own"):
        published.make("nyud-fcn32s-color-d-heavy", tmp_path / "made.safetensors")
