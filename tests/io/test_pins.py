"""Digests that are recorded at a file's first use, and what follows from a change."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from caffe import Array, net_of
from conftest import ROOT, Checkout
from makers import packed_split
from PIL import Image
from torch import nn

from fcn.data.labels import Labels
from fcn.data.split import Split
from fcn.datasets.label_maps import CONTEXT60, NYUD
from fcn.datasets.sources import Sample, nyud, siftflow
from fcn.io import download, pins
from fcn.io.archive import Archive
from fcn.models.fcn import FCN
from fcn.models.layers import CAFFE, TORCHVISION
from fcn.params import Params
from fcn.pipeline import dvc_yaml
from fcn.pretrained import imagenet, importing, published
from fcn.rungs import initialization
from fcn.runtime.errors import UserError
from fcn.weights import model_file
from stages.backbone import _published

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NET = Archive("net.caffemodel", (), "free", kind="weights")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, narrow_vgg16: None) -> Path:
    """An empty checkout, which is its own mirror, and in which VGG16 has a few channels."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
    monkeypatch.setattr(pins, "FOLDER", Path("data/pins"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def use(archive: Archive) -> Path:
    """What a stage does with a file that it can read."""
    path = download.fetch(archive)
    pins.record_unpublished(archive, path)
    return path


def put(folder: Path, name: str, seed: int = 0) -> str:
    """A published net's file with random weights; returns its sha256."""
    torch.manual_seed(seed)
    theirs = published.NETS[name]
    net = FCN(theirs.classes, theirs.stride, at_once=theirs.at_once, geometric=theirs.geometric)
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
    return packed_split(samples, labels, folder / "packed", "train")


def backbone(folder: Path, params: Params, preprocessing: object = CAFFE) -> Path:
    state = FCN(1, 32).state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.startswith("score")}
    meta = model_file.Meta({"backbone": "vgg16"}, preprocessing, None, None, None, 0, 1, {})  # type: ignore[arg-type]
    model_file.save(folder / "backbone.safetensors", state, meta)
    return folder / "backbone.safetensors"


def saved(begun: initialization.Initialized, path: Path, labels: Labels) -> Path:
    meta = model_file.Meta(begun.architecture, begun.net.preprocessing, labels, None, begun.published, 0, 1, {})
    model_file.save(path, begun.net.state_dict(), meta)
    return path


# -- the first use, and the next -------------------------------------------------------------------


def test_the_first_file_is_recorded_and_another_is_refused_until_the_line_is_deleted(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = (hashlib.sha256(content).hexdigest() for content in (b"first", b"second"))
    file, pin = folder / "net.caffemodel", folder / "data" / "pins" / "weights" / "net.sha256"
    file.write_bytes(b"first")
    assert use(NET) == file
    assert pin.read_text() == f"{first}  net\n"
    assert f"{file}: recorded sha256 {first} in data/pins/weights/net.sha256; commit it" in capfd.readouterr().out
    use(NET)
    assert not capfd.readouterr().out
    file.write_bytes(b"second")
    with pytest.raises(UserError) as caught:
        use(NET)
    assert str(caught.value) == (
        f"{file} differs from the file that was used first: its sha256 is {second}, not {first}; "
        "replace it, or delete the line in data/pins/weights/net.sha256 to accept it"
    )
    assert pin.read_text() == f"{first}  net\n"
    pin.write_text("")
    use(NET)
    assert pin.read_text() == f"{second}  net\n"


@pytest.mark.parametrize("text", ["0123  net\n", f"{'0' * 64}  other\n", f"{'0' * 64}  net\n" * 2, "x\n", "\xff\n"])
def test_a_record_that_is_none_is_said_in_one_line(folder: Path, text: str) -> None:
    pin = folder / "data" / "pins" / "weights" / "net.sha256"
    pin.parent.mkdir(parents=True)
    pin.write_bytes(text.encode("latin-1"))
    (folder / "net.caffemodel").write_bytes(b"first")
    with pytest.raises(
        UserError, match=r"^data/pins/weights/net.sha256 is not a single line `SHA256  net`; `git checkout "
    ):
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
    assert (folder / "data" / "pins" / "datasets" / "a.sha256").exists()
    with pytest.raises(UserError, match=f"its sha1 is {digests['sha1']}, not {'0' * 40}"):
        download.fetch(Archive("a.zip", (), "free", sha1="0" * 40))


def test_the_folder_that_records_a_digest_is_a_dep_of_the_stage_that_uses_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pins, "FOLDER", Path("data/pins"))
    download, backbone = (set(STAGES[stage]["deps"]) for stage in ("download", "backbone"))
    for archive in (nyud.REFERENCE, siftflow.ARCHIVE):
        assert not archive.has_digest
        assert pins.path(archive).parent.as_posix() in download
        assert (ROOT / pins.path(archive)).is_file()
    for archive in (
        imagenet.CAFFE_VGG16,
        imagenet.torchvision_archive("vgg16"),
        *map(published.archive, published.NETS),
    ):
        assert pins.path(archive).parent.as_posix() in backbone
    for name in imagenet.DIGESTS:
        assert imagenet.DIGESTS[name].startswith(Path(name).stem.rpartition("-")[2])


# -- published nets ---------------------------------------------------------------------------------


def test_a_rung_knows_the_published_file_it_started_from_and_another_file_is_refused(
    folder: Path, small: Callable[..., Params]
) -> None:
    name, train = "pascalcontext-fcn32s-heavy", split(folder, CONTEXT60)
    first = put(folder, name)
    params = small(**{"model.backbone": "vgg16", "model.preprocessing": "caffe", "train.init": name})
    published.make(name, folder / "published" / f"{name}.safetensors")
    begun = initialization.initialize(train, 32, params, backbone(folder, params), folder / "published")
    assert (begun.published, begun.parent) == (model_file.Published(name, first), None)
    second = put(folder, name, seed=1)
    with pytest.raises(UserError, match=f"its sha256 is {second}, not {first}; replace it, or delete the line"):
        published.make(name, folder / "published" / f"{name}.safetensors")


def test_the_backbone_stage_leaves_the_published_net_that_init_names_and_no_earlier_one(
    folder: Path, small: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    name, out = "pascalcontext-fcn32s-heavy", folder / "published" / "fcn32s"
    put(folder, name)
    entry = dvc_yaml.entry("train", {"cmd": "train", "deps": ["published/fcn32s"]}, {})
    _published(out, 32, small(**{"train.init": name, "model.backbone": "vgg16"}))
    assert "FCN's authors: unrestricted use (BVLC model license)" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["init.txt", f"{name}.safetensors"]
    before = entry.fingerprint()
    _published(out, 32, small())
    assert {path.name: path.read_text() for path in out.iterdir()} == {"init.txt": "parent\n"}
    assert entry.fingerprint() != before  # another training: no checkpoint of the first one is resumed


def test_an_imported_file_is_recorded_as_what_it_was_made_from(folder: Path) -> None:
    name, made = "pascalcontext-fcn32s-heavy", folder / "published.safetensors"
    digest = put(folder, name)
    importing.convert(folder / f"{name}.caffemodel")
    published.make(name, made)
    before = made.read_bytes()
    (folder / f"{name}.caffemodel").unlink()
    published.make(name, made)
    assert made.read_bytes() == before
    assert model_file.facts(made).published == model_file.Published(name, digest)
    put(folder, name, seed=1)
    importing.convert(folder / f"{name}.caffemodel")
    (folder / f"{name}.caffemodel").unlink()
    with pytest.raises(UserError, match=rf"{name}.safetensors differs from the file .*, not {digest}; "):
        published.make(name, made)


# -- their mean colour ------------------------------------------------------------------------------


def test_finer_nets_inherit_the_mean_colour_of_a_published_one(folder: Path, small: Callable[..., Params]) -> None:
    name, train = "nyud-fcn32s-color-heavy", split(folder, NYUD)
    put(folder, name)
    published.make(name, folder / "published" / f"{name}.safetensors")
    params = small(
        **{"model.backbone": "vgg16", "model.preprocessing": "caffe", "model.pad": 100, "train.init": name},
    )
    parent = backbone(folder, params)
    for stride in (32, 16, 8):
        begun = initialization.initialize(train, stride, params, parent, folder / "published")
        assert begun.net.preprocessing.mean == (116.190, 97.203, 92.318)  # BGR, the reference's nyud_layers.py
        line = "mean colour B 116.19, G 97.203, R 92.318: that of the weights it starts from"
        assert line in initialization.summary(stride, params, train, begun.table, begun.net.preprocessing).splitlines()
        parent = saved(begun, folder / f"fcn{stride}s.safetensors", NYUD)
    assert model_file.build(parent)[1].preprocessing.mean == (116.190, 97.203, 92.318)


def test_preprocessing_of_another_kind_than_the_parents_is_refused_with_what_to_set(
    folder: Path, small: Callable[..., Params]
) -> None:
    train = split(folder, NYUD)
    params = small(**{"model.backbone": "vgg16", "model.preprocessing": "torchvision"})
    with pytest.raises(UserError, match=r"'torchvision' is .*; set model.preprocessing: caffe$"):
        initialization.initialize(train, 32, params, backbone(folder, params), folder)
    params = small(**{"model.backbone": "vgg16", "model.preprocessing": "caffe"})
    with pytest.raises(UserError, match=r"'caffe' is .*; set model.preprocessing: torchvision$"):
        initialization.initialize(train, 32, params, backbone(folder, params, TORCHVISION), folder)


# -- DVC --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_dvc_sees_the_record_of_what_a_stage_uses(ready: Checkout) -> None:
    pin = ready.folder / "data" / "pins"
    (pin / "weights" / "fcn32s-heavy-pascal.sha256").write_text(f"{'0' * 64}  fcn32s-heavy-pascal\n")
    assert set(json.loads(ready.run("dvc", "status", "--json"))) == {"backbone"}
    (pin / "datasets" / "nyud.sha256").write_text(f"{'0' * 64}  nyud\n")
    assert set(json.loads(ready.run("dvc", "status", "--json"))) == {"backbone", "download"}


@pytest.mark.slow
def test_without_a_published_net_the_folders_that_would_hold_one_say_parent(kept: Checkout) -> None:
    published = kept.folder / "data" / "weights" / "published"
    files = (path for path in published.rglob("*") if path.is_file())
    found = {path.relative_to(published).as_posix(): path.read_text() for path in files}
    assert found == {f"fcn{stride}s/init.txt": "parent\n" for stride in (32, 16, 8)}
