"""Published files as model files: true names at a few channels, and files that mean harm."""

import hashlib
import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from caffe import blobs_of, net_of
from torch import Tensor, nn

from fcn.datasets.label_maps import VOC
from fcn.models.fcn import FCN
from fcn.models.layers import CAFFE, bilinear_kernel
from fcn.pretrained import imagenet, importing, published
from fcn.rungs import initialization
from fcn.runtime import files
from fcn.runtime.errors import UserError
from fcn.weights import model_file

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, narrow_vgg16: None) -> None:
    """VGG16 with a few channels, in an empty checkout."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("FCN_MIRROR", raising=False)


def theirs(stride: int = 8, **others: bool) -> State:
    """What pytorch-fcn saves: every layer by its Caffe name, and the kernels of upsampling."""
    torch.manual_seed(stride)
    net = FCN(21, stride, **others)
    for name, module in net.named_children():
        if name.startswith("score"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    sizes = {"upscore": 64, "upscore16": 32, "upscore8": 16, "upscore2": 4, "upscore_pool4": 4}
    kernels = {n: bilinear_kernel(21, size).float() for n, size in sizes.items() if hasattr(net, n)}
    return net.state_dict() | {f"{name}.weight": kernel for name, kernel in kernels.items()}


def saved(state: object, path: Path, name: str, *, old: bool = True) -> dict[str, str]:
    """The file as torch wrote it in 2017, or as it does now; returns the digests that make it known."""
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    return {hashlib.md5(path.read_bytes()).hexdigest(): name}


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(("stride", "name"), [(32, "fcn32s-heavy-pascal"), (16, "fcn16s-heavy-pascal")])
def test_a_converted_net_becomes_a_model_file_that_predicts_the_same(
    tmp_path: Path, stride: int, name: str, old: bool
) -> None:
    state = theirs(stride)
    digests = saved(state, tmp_path / "x.pth", name, old=old)
    out, found = importing.convert(tmp_path / "x.pth", digests=digests)
    assert (out, found) == (tmp_path / ".fcn" / "downloads" / f"{name}.safetensors", name)
    net, meta = model_file.build(out)
    assert (meta.published, meta.parent) == (model_file.Published(name, files.sha256(tmp_path / "x.pth")), None)
    assert (meta.labels, meta.preprocessing, meta.scored) == (VOC, CAFFE, True)
    reference = FCN(21, stride, upsampling="learned").eval()
    reference.load_state_dict(state)
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    assert torch.allclose(net(image), reference(image), atol=1e-4)


def test_a_rung_starts_from_an_imported_file_where_the_caffemodel_is_missing(tmp_path: Path) -> None:
    state = theirs(8, at_once=True)
    digests = saved(state, tmp_path / "x.pth", "fcn8s-atonce-pascal")
    importing.convert(tmp_path / "x.pth", digests=digests)
    net = FCN(21, 8, at_once=True)
    model = tmp_path / "made.safetensors"
    published.make("fcn8s-atonce-pascal", model)
    architecture = published.architecture(published.NETS["fcn8s-atonce-pascal"])
    initialization.fill(net, architecture, "fcn8s-atonce-pascal", model)
    assert torch.equal(net.score_pool3.weight, state["score_pool3.weight"])
    learned = FCN(21, 8, at_once=True, upsampling="learned")
    initialization.fill(learned, architecture, "fcn8s-atonce-pascal", model)
    assert torch.equal(learned.upscore8.weight, bilinear_kernel(21, 16).float())  # type: ignore[union-attr]


def test_vgg16_by_torchvisions_names_becomes_the_caffe_backbone(tmp_path: Path) -> None:
    names = imagenet.torchvision_names("vgg16")
    ours = {k: t for k, t in theirs(32).items() if not k.startswith(("score", "upscore"))}
    state = {
        names[key]: tensor.flatten(1) if key in ("fc6.weight", "fc7.weight") else tensor for key, tensor in ours.items()
    }
    state |= {"classifier.6.weight": torch.zeros(1000, 7), "classifier.6.bias": torch.zeros(1000)}
    digests = saved(state, tmp_path / "x.pth", imagenet.VGG16)
    out, name = importing.convert(tmp_path / "x.pth", digests=digests)
    assert (out.name, name) == ("VGG_ILSVRC_16_layers.safetensors", "VGG_ILSVRC_16_layers")
    loaded, preprocessing, used = imagenet.backbone("vgg16", "caffe")
    assert preprocessing == CAFFE
    assert used == model_file.Published(imagenet.VGG16, files.sha256(tmp_path / "x.pth"))
    assert loaded.keys() == ours.keys()
    assert all(torch.equal(loaded[key], ours[key]) for key in ours)
    del state["features.0.bias"]
    digests = saved(state | {"features.99.bias": torch.zeros(1)}, tmp_path / "x.pth", imagenet.VGG16)
    with pytest.raises(UserError, match=r"vgg16: features.0.bias is missing; features.99.bias is unknown$"):
        importing.convert(tmp_path / "x.pth", digests=digests)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_caffemodel_is_known_by_its_name_or_by_what_it_is_said_to_be(tmp_path: Path, renamed: bool) -> None:
    path = tmp_path / ("x.caffemodel" if renamed else "fcn16s-heavy-pascal.caffemodel")
    path.write_bytes(net_of(blobs_of(theirs(16)), old=True))
    if renamed:
        with pytest.raises(UserError, match=r"name of a published net; name it with --net: fcn32s-heavy-pascal, "):
            importing.convert(path)
    out, _ = importing.convert(path, name="fcn16s-heavy-pascal", out=tmp_path / "out" / "y.safetensors")
    assert torch.equal(model_file.load(out)[0]["fc6.weight"], theirs(16)["fc6.weight"])
    with pytest.raises(UserError, match="fcn8s-atonce-pascal is another net: score_pool3.weight is missing; "):
        importing.convert(path, name="fcn8s-atonce-pascal", out=tmp_path / "z.safetensors")
    with pytest.raises(UserError, match=r"not the published fcn8s-heavy-pascal.caffemodel: its sha1 is [0-9a-f]{40}, "):
        importing.convert(path, name="fcn8s-heavy-pascal", out=tmp_path / "z.safetensors")
    assert not (tmp_path / "z.safetensors").exists()


class Trap:
    """What a hostile pickle can be: its loader touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def hostile(path: Path, kind: str) -> None:
    trap = Trap(path.parent / "sprung")
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(trap))
    else:
        torch.save({"conv1_1.weight": trap}, path, _use_new_zipfile_serialization=kind == "zip")


@pytest.mark.parametrize("kind", ["plain pickle", "zip", "legacy"])
def test_a_trap_that_nobody_published_is_not_even_opened(tmp_path: Path, kind: str) -> None:
    hostile(tmp_path / "fcn8s_from_caffe.pth", kind)
    with pytest.raises(UserError, match=r"\(md5 [0-9a-f]{32}\) is not a file published .* and was not loaded"):
        importing.convert(tmp_path / "fcn8s_from_caffe.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", ["plain pickle", "zip", "legacy"])
def test_a_trap_whose_digest_is_known_is_still_not_sprung(tmp_path: Path, kind: str) -> None:
    """md5 can be forged: the file is then read as tensors and nothing else."""
    path = tmp_path / "fcn8s_from_caffe.pth"
    hostile(path, kind)
    digests = {hashlib.md5(path.read_bytes()).hexdigest(): "fcn8s-heavy-pascal"}
    with pytest.raises(UserError, match="cannot be read as a file of tensors") as caught:
        importing.convert(path, digests=digests)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / ".fcn").exists()
    torch.load(io.BytesIO(path.read_bytes()), weights_only=False) if kind != "plain pickle" else pickle.loads(
        path.read_bytes()
    )
    assert (tmp_path / "sprung").exists()  # the trap is a real one


@pytest.mark.parametrize("content", [[1, 2], {"conv1_1.weight": 3}, "text"])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    digests = saved(content, tmp_path / "x.pth", "fcn8s-heavy-pascal")
    with pytest.raises(UserError, match="is not a dict of tensors by name"):
        importing.convert(tmp_path / "x.pth", digests=digests)


def test_learned_upsampling_a_cut_file_and_one_that_is_too_large_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    state = theirs(8)
    state["upscore8.weight"] = state["upscore8.weight"] * 1.01
    digests = saved(state, path, "fcn8s-heavy-pascal")
    with pytest.raises(UserError, match="upscore8.weight is not the bilinear kernel"):
        importing.convert(path, digests=digests)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="cannot be read as a file of tensors"):
        importing.convert(path, digests={hashlib.md5(path.read_bytes()).hexdigest(): "fcn8s-heavy-pascal"})
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # a hole: it takes no room
    with pytest.raises(UserError, match="has 1,073,741,825 bytes"):
        importing.convert(path)
    with pytest.raises(UserError, match=r"nowhere.pth is missing$"):
        importing.convert(tmp_path / "nowhere.pth")


@pytest.mark.usefixtures("narrow_alexnet")
def test_fcn_alexnet_is_imported_and_starts_a_rung_of_its_own_backbone_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = FCN(21, 32, "alexnet")
    layers = blobs_of(net.state_dict()) | {"upscore": [bilinear_kernel(21, 63).float().numpy()]}
    (tmp_path / "fcn-alexnet-pascal.caffemodel").write_bytes(net_of(layers))
    out, name = importing.convert(tmp_path / "fcn-alexnet-pascal.caffemodel")
    loaded, meta = model_file.build(out)
    assert (name, meta.labels, meta.architecture["backbone"]) == ("fcn-alexnet-pascal", VOC, "alexnet")
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    assert torch.equal(loaded(image), net.eval()(image))
    published.check(name, 32, "alexnet", classes=21)
    with pytest.raises(UserError, match="expects model.backbone: alexnet"):
        published.check(name, 32, "vgg16", classes=21)


@pytest.mark.usefixtures("narrow_alexnet")
def test_caffenet_is_imported_as_the_backbone_of_fcn_alexnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {name: tensor for name, tensor in FCN(1, 32, "alexnet").state_dict().items() if "score" not in name}
    layers = blobs_of(state) | {"fc8": [np.zeros((1000, 7), np.float32), np.zeros(1000, np.float32)]}
    path = tmp_path / f"{imagenet.CAFFENET}.caffemodel"
    path.write_bytes(net_of(layers))
    with pytest.raises(UserError, match="its sha1 is [0-9a-f]{40}, not 4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46"):
        importing.convert(path)
    sha1 = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(imagenet.IN_CAFFE, "alexnet", replace(imagenet.CAFFE_ALEXNET, sha1=sha1))
    importing.convert(path)
    loaded, preprocessing, used = imagenet.backbone("alexnet", "caffe")
    assert (preprocessing, used.name) == (CAFFE, imagenet.CAFFENET)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())


@pytest.mark.usefixtures("narrow_googlenet")
@pytest.mark.parametrize("old", [False, True])
def test_bvlcs_googlenet_is_imported_without_its_classifiers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    """The layers of train_val.prototxt under their names; the mean colour is its mean_value: 104, 117, 123."""
    state = {name: tensor for name, tensor in FCN(1, 32, "googlenet").state_dict().items() if "score" not in name}
    layers = blobs_of(state)
    for number, inputs in ((1, 32), (2, 33)):
        layers[f"loss{number}/conv"] = [np.zeros((8, inputs, 1, 1), np.float32), np.zeros(8, np.float32)]
        layers[f"loss{number}/fc"] = [np.zeros((64, 128), np.float32), np.zeros(64, np.float32)]
        layers[f"loss{number}/classifier"] = [np.zeros((1000, 64), np.float32), np.zeros(1000, np.float32)]
    layers["loss3/classifier"] = [np.zeros((1000, 64), np.float32), np.zeros(1000, np.float32)]
    assert list(layers)[:5] == [
        "conv1/7x7_s2",
        "conv2/3x3_reduce",
        "conv2/3x3",
        "inception_3a/1x1",
        "inception_3a/3x3_reduce",
    ]
    path = tmp_path / f"{imagenet.GOOGLENET}.caffemodel"
    path.write_bytes(net_of(layers, old=old))
    with pytest.raises(UserError, match="its sha1 is [0-9a-f]{40}, not 405fc5acd08a3bb12de8ee5e23a96bec22f08204"):
        importing.convert(path)
    sha1 = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(imagenet.IN_CAFFE, "googlenet", replace(imagenet.CAFFE_GOOGLENET, sha1=sha1))
    out, _ = importing.convert(path)
    loaded, preprocessing, used = imagenet.backbone("googlenet", "caffe")
    assert (preprocessing.order, preprocessing.mean, used.name) == ("BGR", (104, 117, 123), imagenet.GOOGLENET)
    assert model_file.load(out)[1].preprocessing == preprocessing
    assert loaded.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())
    del layers["inception_4e/pool_proj"]
    path.write_bytes(net_of(layers, old=old))
    monkeypatch.setitem(imagenet.IN_CAFFE, "googlenet", replace(imagenet.CAFFE_GOOGLENET, sha1=None))
    with pytest.raises(UserError, match="bvlc_googlenet is another net: inception_4e/pool_proj.weight is missing"):
        importing.convert(path)


def chainer(state: State, path: Path, name: str, **more: np.ndarray) -> dict[str, str]:
    """The file as Chainer saves it: LAYER/W and LAYER/b; returns the digests that make it known."""
    kinds = {"weight": "W", "bias": "b"}
    arrays = {}
    for key, tensor in state.items():
        layer, _, kind = key.rpartition(".")
        arrays[f"{layer}/{kinds[kind]}"] = tensor.numpy()
    np.savez_compressed(
        path, allow_pickle=True, **arrays | {key.replace("__", "/"): value for key, value in more.items()}
    )
    return {hashlib.md5(path.read_bytes()).hexdigest(): name}


@pytest.mark.parametrize(
    ("stride", "name", "at_once"),
    [
        (32, "fcn32s-heavy-pascal", False),
        (16, "fcn16s-heavy-pascal", False),
        (8, "fcn8s-heavy-pascal", False),
        (8, "fcn8s-atonce-pascal", True),
    ],
)
def test_chainers_file_becomes_a_model_file_that_predicts_the_same(
    tmp_path: Path, stride: int, name: str, at_once: bool
) -> None:
    state = theirs(stride, at_once=at_once)
    zero = {"upscore2__b": np.zeros(21, np.float32)} if stride == 16 else {}  # FCN16s had nobias=False
    digests = chainer(state, tmp_path / "x.npz", name, **zero)
    out, found = importing.convert(tmp_path / "x.npz", digests=digests)
    assert found == name
    reference = FCN(21, stride, upsampling="learned", at_once=at_once).eval()
    reference.load_state_dict(state)
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    assert torch.allclose(model_file.build(out)[0](image), reference(image), atol=1e-4)


def test_chainers_vgg16_becomes_the_caffe_backbone(tmp_path: Path) -> None:
    trunk = {k: t for k, t in theirs(32).items() if not k.startswith(("score", "upscore"))}
    linear = {k: t.flatten(1) if k in ("fc6.weight", "fc7.weight") else t for k, t in trunk.items()}
    linear |= {"fc8.weight": torch.zeros(1000, 7), "fc8.bias": torch.zeros(1000)}
    out, name = importing.convert(tmp_path / "x.npz", digests=chainer(linear, tmp_path / "x.npz", imagenet.VGG16))
    assert name == imagenet.VGG16
    loaded = model_file.load(out)[0]
    assert loaded.keys() == trunk.keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in trunk.items())


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"upscore__b": np.ones(21, np.float32)}, "upscore has 2 blobs"),
        ({"conv1_1__gamma": np.ones(2, np.float32)}, "arrays that are no layer's W or b: 'conv1_1/gamma'"),
        ({"conv1_1__b": np.ones(2)}, "array of float64"),
        ({"conv1_1__b": np.array([Trap(Path("sprung"))], object)}, "array of object"),
        ({"conv1_1__b": np.ones(3, np.float32)}, r"conv1_1.bias is \(3,\) float32, not \(2,\) float32"),
        ({"conv9__W": np.ones(3, np.float32)}, "no FCN has the layers 'conv9'"),
    ],
)
def test_another_content_in_chainers_file_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, np.ndarray], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    digests = chainer(theirs(32), tmp_path / "x.npz", "fcn32s-heavy-pascal", **more)
    with pytest.raises(UserError, match=reason) as caught:
        importing.convert(tmp_path / "x.npz", digests=digests)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_a_file_of_chainers_that_nobody_published_or_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    chainer(theirs(32), path, "fcn32s-heavy-pascal")
    with pytest.raises(UserError, match=r"\(md5 [0-9a-f]{32}\) is not a file published by pytorch-fcn or fcn"):
        importing.convert(path)
    content = bytearray(path.read_bytes())
    for damaged in (content[: len(content) // 2], content[:100] + bytes(200) + content[300:], b"no zip"):
        path.write_bytes(damaged)
        digests = {hashlib.md5(bytes(damaged)).hexdigest(): "fcn32s-heavy-pascal"}
        with pytest.raises(UserError, match="cannot be read as a file of Chainer's weights") as caught:
            importing.convert(path, digests=digests)
        assert "\n" not in str(caught.value)
