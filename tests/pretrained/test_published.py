"""Published weights, from files in their makers' formats at full width, filled with random numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from caffe import Array, net_of
from torch import Tensor, nn

from fcn.datasets import sources
from fcn.models.backbones import BACKBONES
from fcn.models.fcn import FCN
from fcn.models.layers import CAFFE, TORCHVISION
from fcn.models.surgery import transplant
from fcn.params import Model
from fcn.pretrained import imagenet, published
from fcn.rungs import initialization
from fcn.runtime import files
from fcn.runtime.errors import UserError
from fcn.weights import loading
from fcn.weights.model_file import Published


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
    return tmp_path


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's VGGs and ours with an eighth of the classifier, to keep the test small."""
    for name in ("vgg16", "vgg16_bn", "vgg19", "vgg19_avg"):
        monkeypatch.setitem(BACKBONES, name, replace(BACKBONES[name], fc=64))


def trained(name: str) -> nn.Module:
    """A torchvision VGG with a narrow classifier and random weights."""
    torch.manual_seed(0)
    net = torchvision.models.get_model(name)
    net.classifier[0] = nn.Linear(512 * 7 * 7, 64)
    net.classifier[3] = nn.Linear(64, 64)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


def put(net: nn.Module, name: str, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lays the net's file into the mirror, under a name that ends in its digest's first eight digits."""
    torch.save(net.state_dict(), mirror / "x.pth")
    digest = files.sha256(mirror / "x.pth")
    (mirror / "x.pth").rename(mirror / f"{name}-{digest[:8]}.pth")
    archive = sources.Archive(f"{name}-{digest[:8]}.pth", (), "", digest)
    monkeypatch.setattr(imagenet, "torchvision_archive", lambda _: archive)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "vgg19"])
def test_a_torchvision_backbone_computes_what_torchvisions_net_does(
    name: str, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = trained(name)
    put(theirs, name, mirror, monkeypatch)
    state, preprocessing, used = imagenet.backbone(name, "torchvision")
    assert preprocessing == TORCHVISION
    (file,) = mirror.glob("*.pth")
    assert used == Published(file.stem, files.sha256(file))
    ours = FCN(5, 32, name, preprocessing=preprocessing, pad="same")
    transplant(ours, state, init_std=0.0, generator=torch.Generator())
    ours.eval()
    seen: dict[str, Tensor] = {}
    # fc7's output, where the whole 7×7 kernel lies on the map: the middle of 224×224.
    ours.drop7.register_forward_hook(lambda _m, _i, output: seen.update(fc7=output))
    image = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours(image)
        features = theirs.features(TORCHVISION(image, torch.float32)).flatten(1)
        expected = theirs.classifier[:6](features)
    assert torch.allclose(seen["fc7"][0, :, 3, 3], expected[0], rtol=1e-4, atol=1e-5)
    assert expected.abs().max() > 0.01


@pytest.mark.usefixtures("narrow")
def test_vgg19_for_scene_parsing_ends_at_conv5_3(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(trained("vgg19"), "vgg19", mirror, monkeypatch)
    state, _, _ = imagenet.backbone("vgg19_avg", "torchvision")
    assert {"conv4_4.weight", "conv5_3.weight"} < set(state)
    assert "conv5_4.weight" not in state
    transplant(FCN(151, 32, "vgg19_avg", pad="same"), state, init_std=0.02, generator=torch.Generator())


def test_a_file_with_another_digest_is_never_unpickled(mirror: Path) -> None:
    archive = imagenet.torchvision_archive("vgg16")
    assert archive.name == "vgg16-397923af.pth"
    (mirror / archive.name).write_bytes(b"cos\nsystem\n(S'touch unpickled'\ntR.")
    with pytest.raises(UserError, match=r"its sha256 is [0-9a-f]{64}, not 397923af[0-9a-f]{56};"):
        imagenet.backbone("vgg16", "torchvision")


def test_a_pickle_that_does_more_than_weights_is_refused(mirror: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (mirror / "sprung",)  # type: ignore[return-value]

    torch.save({"features.0.weight": Trap()}, mirror / "x.pth")
    with (mirror / "x.pth").open("rb") as file, pytest.raises(UserError, match="cannot be read as a file of tensors"):
        imagenet.unpickle(file, mirror / "x.pth")
    assert not (mirror / "sprung").exists()


def test_weights_that_nobody_published_are_answered_with_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"'caffe' has no vgg19; available are torchvision for .*caffe for vgg16"):
        imagenet.backbone("vgg19", "caffe")
    with pytest.raises(UserError, match="'torchvision' has no slim"):
        imagenet.backbone("slim", "torchvision")
    with pytest.raises(UserError, match="caffe for googlenet; torchvision's googlenet is another net, with batch norm"):
        imagenet.backbone("googlenet", "torchvision")


def test_what_the_makers_of_weights_allow_is_said_with_the_files_name() -> None:
    notice = imagenet.archive("vgg16", "caffe").notice
    assert notice == "VGG_ILSVRC_16_layers.caffemodel: VGG16 by Simonyan and Zisserman: CC BY 4.0"


def test_params_offer_the_backbones_that_there_are() -> None:
    assert Model.model_fields["backbone"].annotation is not None
    assert set(Model.model_fields["backbone"].annotation.__args__) == set(BACKBONES)


def written(net: FCN, name: str, mirror: Path) -> None:
    """The net's weights as a .caffemodel in the mirror."""
    layers: dict[str, list[Array]] = {}
    for key, tensor in net.state_dict().items():
        layers.setdefault(key.rpartition(".")[0], []).append(tensor.numpy())
    (mirror / f"{name}.caffemodel").write_bytes(net_of(layers, old=True))


def load(net: FCN, name: str, folder: Path) -> None:
    """As the stage backbone and a rung do together."""
    published.make(name, folder / f"{name}.safetensors")
    architecture = {"num_classes": net.heads[min(net.heads)], "stride": net.stride, "at_once": net.at_once}
    initialization.fill(net, architecture, name, folder / f"{name}.safetensors")


@pytest.mark.usefixtures("narrow_vgg16")
def test_a_published_net_fills_every_layer_and_another_net_is_refused(mirror: Path) -> None:
    torch.manual_seed(0)
    theirs = FCN(21, 16)
    for layer in (theirs.score_fr, theirs.score_pool4):
        nn.init.normal_(layer.weight)
    written(theirs, "fcn16s-heavy-pascal", mirror)
    ours = FCN(21, 16)
    load(ours, "fcn16s-heavy-pascal", mirror)
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    assert torch.equal(ours.eval()(image), theirs.eval()(image))
    with pytest.raises(UserError, match="fcn16s-heavy-pascal is FCN-16s and cannot initialize FCN-8s"):
        published.check("fcn16s-heavy-pascal", 8, "vgg16", False, 21)
    with pytest.raises(UserError, match="fcn16s-heavy-pascal has stride: 16, this FCN-8s has 8"):
        load(FCN(21, 8), "fcn16s-heavy-pascal", mirror)
    with pytest.raises(UserError, match="expects model.preprocessing: caffe"):
        load(FCN(21, 16, preprocessing=TORCHVISION), "fcn16s-heavy-pascal", mirror)
    with pytest.raises(UserError, match="init is 'fcn64s'; choose from parent, fcn32s-heavy-pascal"):
        published.check("fcn64s", 16, "vgg16", False)


@pytest.mark.usefixtures("narrow_vgg16")
def test_a_published_net_brings_its_own_mean_colour(mirror: Path) -> None:
    torch.manual_seed(0)
    written(FCN(60, 16), "pascalcontext-fcn16s-heavy", mirror)
    ours = FCN(60, 16)
    load(ours, "pascalcontext-fcn16s-heavy", mirror)
    assert (ours.preprocessing.order, ours.preprocessing.mean) == ("BGR", (104.007, 116.669, 122.679))
    assert CAFFE.mean == (104.00699, 116.66877, 122.67892)


def test_a_net_of_other_classes_or_of_another_kind_is_refused_before_its_file_is_sought() -> None:
    with pytest.raises(UserError, match=r"scores 33 classes of siftflow, the data set has 21$"):
        published.check("siftflow-fcn16s-heavy", 16, "vgg16", False, 21)
    with pytest.raises(UserError, match=r"scores 60 classes of context60, the data set has 59$"):
        published.check("pascalcontext-fcn8s-heavy", 8, "vgg16", False, 59)
    with pytest.raises(UserError, match="fcn8s-atonce-pascal expects model.at_once: true"):
        published.check("fcn8s-atonce-pascal", 8, "vgg16", False, 21)
    with pytest.raises(UserError, match="fcn8s-heavy-pascal expects model.at_once: false"):
        published.check("fcn8s-heavy-pascal", 8, "vgg16", True, 21)


@pytest.mark.usefixtures("narrow_vgg16")
def test_every_surprise_in_a_published_net_is_listed(mirror: Path) -> None:
    state = FCN(21, 16).state_dict()
    state["score_fr.weight"] = state["score_fr.weight"][:, :5]
    state["conv1_1.weight"][0] = float("nan")
    del state["conv5_3.bias"]
    state["fc8.weight"] = torch.zeros(1)
    with pytest.raises(UserError) as caught:
        loading.fill(FCN(21, 16), state, "x")
    assert str(caught.value) == (
        "x is another net: conv5_3.bias is missing; fc8.weight is unknown; score_fr.weight is (21, 5, 1, 1) float32, "
        "not (21, 7, 1, 1) float32; conv1_1.weight has values that are not finite"
    )
