"""Digests that are recorded at a file's first use, and what follows from a change."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from caffe import Array, net_of
from conftest import ROOT, Checkout
from PIL import Image
from torch import nn

from fcn.data.labels import Labels
from fcn.data.split import Split
from fcn.datasets import packing, sources
from fcn.datasets.label_maps import NYUD, SIFTFLOW
from fcn.datasets.sources import Sample, nyud, siftflow
from fcn.io import download, pins
from fcn.io.archive import Archive
from fcn.models import weights
from fcn.models.fcn import BACKBONES, FCN, Backbone
from fcn.models.layers import CAFFE, TORCHVISION
from fcn.params import Params
from fcn.pipeline import dvc_yaml
from fcn.pretrained import imagenet, importing, published
from fcn.runtime.errors import UserError
from fcn.training import initialization

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NET = Archive("net.caffemodel", (), "free")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout, which is its own mirror, and in which VGG16 has a few channels."""
    monkeypatch.setitem(BACKBONES, "vgg16", Backbone((2, 2, 3, 3, 3), (2, 3, 4, 5, 6), 7))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
    monkeypatch.setattr(pins, "FOLDER", Path("data/pins"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def use(archive: Archive) -> Path:
    """What a stage does with a file that it can read."""
    path = download.fetch(archive)
    pins.keep_unpublished(archive, path)
    return path


def put(folder: Path, name: str, seed: int = 0) -> str:
    """A published net's file with random weights; returns its sha256."""
    torch.manual_seed(seed)
    theirs = published.NETS[name]
    net = FCN(theirs.classes, theirs.stride, at_once=theirs.at_once)
    for layer, module in net.named_children():
        if layer.startswith("score"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    layers: dict[str, list[Array]] = {}
    for key, tensor in net.state_dict().items():
        layers.setdefault(key.rpartition(".")[0], []).append(tensor.numpy())
    content = net_of(layers, old=True)
    (folder / f"{name}.caffemodel").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def split(folder: Path, labels: Labels) -> Split:
    """Two images with a data set's classes."""
    for name in ("image", "mask"):
        Image.new("RGB" if name == "image" else "L", (32, 32)).save(folder / f"{name}.png")
    samples = [Sample(name, folder / "image.png", folder / "mask.png") for name in ("a", "b")]
    (folder / "packed").mkdir()
    packing.pack(samples, labels, "native", False, "train", folder / "packed")
    packing.write_labels(labels, folder / "packed")
    return Split(folder / "packed", "train")


def backbone(folder: Path, params: Params, preprocessing: object = CAFFE) -> Path:
    state = FCN(1, 32).state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.startswith("score")}
    meta = weights.Meta({"backbone": "vgg16"}, preprocessing, None, None, None, 0, 1, {})  # type: ignore[arg-type]
    weights.save(folder / "backbone.safetensors", state, meta)
    return folder / "backbone.safetensors"


def saved(begun: initialization.Start, path: Path, labels: Labels) -> Path:
    meta = weights.Meta(begun.architecture, begun.net.preprocessing, labels, None, begun.published, 0, 1, {})
    weights.save(path, begun.net.state_dict(), meta)
    return path


# -- the first use, and the next -------------------------------------------------------------------


def test_the_first_file_is_recorded_and_another_is_refused_until_the_line_is_deleted(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = (hashlib.sha256(content).hexdigest() for content in (b"first", b"second"))
    file, pin = folder / "net.caffemodel", folder / "data" / "pins" / "net.sha256"
    file.write_bytes(b"first")
    assert use(NET) == file
    assert pin.read_text() == f"{first}  net\n"
    assert f"{file}: sha256 {first} is recorded in data/pins/net.sha256; commit it" in capfd.readouterr().out
    use(NET)
    assert not capfd.readouterr().out
    file.write_bytes(b"second")
    with pytest.raises(UserError) as caught:
        use(NET)
    assert str(caught.value) == (
        f"{file} is not the file that was used first: its sha256 is {second}, not {first}; "
        "replace it, or delete the line in data/pins/net.sha256 to accept it"
    )
    assert pin.read_text() == f"{first}  net\n"
    pin.write_text("")
    use(NET)
    assert pin.read_text() == f"{second}  net\n"


@pytest.mark.parametrize("text", ["0123  net\n", f"{'0' * 64}  other\n", f"{'0' * 64}  net\n" * 2, "x\n", "\xff\n"])
def test_a_record_that_is_none_is_said_in_one_line(folder: Path, text: str) -> None:
    pin = folder / "data" / "pins" / "net.sha256"
    pin.parent.mkdir(parents=True)
    pin.write_bytes(text.encode("latin-1"))
    (folder / "net.caffemodel").write_bytes(b"first")
    with pytest.raises(UserError, match=r"^data/pins/net.sha256 is not the one line `SHA256  net`; `git checkout "):
        use(NET)


def test_a_published_digest_or_one_of_each_member_needs_no_record(folder: Path) -> None:
    content = b"PK\5\6" + bytes(18)  # an empty zip file
    digests = {kind: hashlib.new(kind, content).hexdigest() for kind in ("sha256", "md5", "sha1")}
    (folder / "a.zip").write_bytes(content)
    for archive in (
        Archive("a.zip", (), "free", digests["sha256"]),
        Archive("a.zip", (), "free", md5=(digests["md5"],)),
        Archive("a.zip", (), "free", sha1=digests["sha1"]),
        Archive("a.zip", (), "free", members=True),
    ):
        use(archive)
        assert not (folder / "data").exists()
    use(Archive("a.zip", (), "free", digests["sha256"][:8]))  # can be forged in an hour
    assert (folder / "data" / "pins" / "a.sha256").exists()
    with pytest.raises(UserError, match=f"its sha1 is {digests['sha1']}, not {'0' * 40}"):
        download.fetch(Archive("a.zip", (), "free", sha1="0" * 40))


def test_every_file_without_a_published_digest_has_its_record_in_git_and_in_its_stages_deps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracked = {
        Path(name) for name in subprocess.check_output(["git", "ls-files", "data/pins"], text=True, cwd=ROOT).split()
    }
    monkeypatch.setattr(pins, "FOLDER", Path("data/pins"))
    download_deps, backbone_deps = ({Path(dep) for dep in STAGES[stage]["deps"]} for stage in ("download", "backbone"))
    data = {pins.path(archive) for archive in (nyud.REFERENCE, siftflow.ARCHIVE)}
    assert not any(archive.has_digest for archive in (nyud.REFERENCE, siftflow.ARCHIVE))
    nets = {pins.path(published.archive(name)) for name in published.INITS}
    vgg = pins.path(imagenet.CAFFE_VGG16)
    assert tracked == data | nets | {vgg, pins.FOLDER / "parent.sha256"}
    assert data <= download_deps
    assert vgg in backbone_deps
    inits = {"train": "train", "finetune16s": "finetune.fcn16s", "finetune8s": "finetune.fcn8s"}
    for stage, section in inits.items():
        assert f"data/pins/${{{section}.init}}.sha256" in STAGES[stage]["deps"]
    for name, address in [(file, sources.at("x")) for file in imagenet.DIGESTS]:
        assert imagenet.DIGESTS[name].startswith(Path(name).stem.rpartition("-")[2])
        assert address == ("https://x", "http://x")


# -- published nets ---------------------------------------------------------------------------------


def test_a_rung_knows_the_published_file_it_started_from_and_another_file_is_another_training(
    folder: Path, small: Callable[..., Params]
) -> None:
    name, train = "siftflow-fcn32s-heavy", split(folder, SIFTFLOW)
    first = put(folder, name)
    params = small(**{"model.backbone": "vgg16", "model.preprocessing": "caffe", "train.init": name})
    graph = {"cmd": "train", "deps": ["data/pins/${train.init}.sha256"], "params": ["train"]}
    entry = dvc_yaml.entry("train", graph, params.model_dump())
    before = entry.fingerprint(**initialization.published_digest(train, 32, params))
    assert before == entry.fingerprint(
        **initialization.published_digest(train, 32, params)
    )  # a kill in between loses nothing
    begun = initialization.start(train, 32, params, backbone(folder, params))
    assert (begun.published, begun.parent) == (weights.Published(name, first), None)
    second = put(folder, name, seed=1)
    for run in (
        lambda: initialization.published_digest(train, 32, params),
        lambda: initialization.start(train, 32, params, folder / "backbone.safetensors"),
    ):
        with pytest.raises(UserError, match=f"its sha256 is {second}, not {first}; replace it, or delete the line"):
            run()
    (folder / "data" / "pins" / f"{name}.sha256").write_text("")
    assert entry.fingerprint(**initialization.published_digest(train, 32, params)) != before


def test_an_imported_file_is_recorded_as_what_it_was_made_from(folder: Path, small: Callable[..., Params]) -> None:
    name, train = "siftflow-fcn32s-heavy", split(folder, SIFTFLOW)
    digest = put(folder, name)
    importing.convert(folder / f"{name}.caffemodel")
    params = small(**{"model.backbone": "vgg16", "train.init": name})
    as_published = initialization.published_digest(train, 32, params)
    (folder / f"{name}.caffemodel").unlink()
    assert initialization.published_digest(train, 32, params) == as_published == {"init": digest}
    put(folder, name, seed=1)
    importing.convert(folder / f"{name}.caffemodel")
    (folder / f"{name}.caffemodel").unlink()
    with pytest.raises(UserError, match=rf"{name}.safetensors is not the file that was used first: .*, not {digest}; "):
        initialization.published_digest(train, 32, params)


def test_a_net_of_classes_that_no_data_set_has_is_not_offered() -> None:
    assert not [name for name in published.INITS if "pascalcontext" in name]
    with pytest.raises(UserError) as caught:
        published.check("fcn64s", 32, False, 21)
    assert "pascalcontext" not in str(caught.value)


# -- their mean colour ------------------------------------------------------------------------------


def test_finer_nets_inherit_the_mean_colour_of_a_published_one(folder: Path, small: Callable[..., Params]) -> None:
    name, train = "nyud-fcn32s-color-heavy", split(folder, NYUD)
    put(folder, name)
    params = small(
        **{"model.backbone": "vgg16", "model.preprocessing": "caffe", "model.pad": 100, "train.init": name},
    )
    parent = backbone(folder, params)
    for stride in (32, 16, 8):
        begun = initialization.start(train, stride, params, parent)
        assert begun.net.preprocessing.mean == (116.190, 97.203, 92.318)  # BGR, the reference's nyud_layers.py
        line = "mean colour B 116.19, G 97.203, R 92.318: that of the weights it starts from"
        assert line in initialization.summary(stride, params, train, begun.table, begun.net.preprocessing).splitlines()
        parent = saved(begun, folder / f"fcn{stride}s.safetensors", NYUD)
    assert weights.build(parent)[1].preprocessing.mean == (116.190, 97.203, 92.318)


def test_preprocessing_of_another_kind_than_the_parents_is_refused_with_what_to_set(
    folder: Path, small: Callable[..., Params]
) -> None:
    train = split(folder, NYUD)
    params = small(**{"model.backbone": "vgg16", "model.preprocessing": "torchvision"})
    with pytest.raises(UserError, match=r"'torchvision' is .*; set model.preprocessing: caffe$"):
        initialization.start(train, 32, params, backbone(folder, params))
    params = small(**{"model.backbone": "vgg16", "model.preprocessing": "caffe"})
    with pytest.raises(UserError, match=r"'caffe' is .*; set model.preprocessing: torchvision$"):
        initialization.start(train, 32, params, backbone(folder, params, TORCHVISION))


# -- DVC --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_dvc_sees_the_record_of_what_a_stage_uses_and_no_other(ready: Checkout) -> None:
    pin = ready.folder / "data" / "pins"
    (pin / "fcn32s-heavy-pascal.sha256").write_text(f"{'0' * 64}  fcn32s-heavy-pascal\n")
    assert not json.loads(ready.run("dvc", "status", "--json"))
    (pin / "VGG_ILSVRC_16_layers.sha256").write_text(f"{'0' * 64}  VGG_ILSVRC_16_layers\n")
    (pin / "nyud.sha256").write_text(f"{'0' * 64}  nyud\n")
    assert set(json.loads(ready.run("dvc", "status", "--json"))) == {"backbone", "download"}
    ready.set(**{"finetune.fcn16s.init": "fcn16s-heavy-pascal"})
    changes = json.loads(ready.run("dvc", "status", "--json", "finetune16s"))["finetune16s"]
    (deps,) = (change["changed deps"] for change in changes if "changed deps" in change)
    assert "data/pins/fcn16s-heavy-pascal.sha256" in deps
