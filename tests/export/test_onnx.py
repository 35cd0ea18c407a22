"""The ONNX file of a net is the same net, for images of any size."""

import json
import random
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT, Fcn
from keys import keys
from model_files import META, NARROW, net_of

from fcn.cli import export as command
from fcn.export import bundle, signature
from fcn.export import onnx as exported
from fcn.export.onnx import Difference
from fcn.models import Net, build
from fcn.models.backbones import BACKBONES
from fcn.runtime import files
from fcn.weights import model_file

MOST = 1e-4  # of the difference of logits, which are at most about 20 here


class Case:
    """A model file, its net in torch, the folder that it is exported to, and the ONNX file there in onnxruntime."""

    def __init__(self, path: Path, net: Net) -> None:
        self.path, self.net, self.folder = path, net, path.parent / "exported"
        self.private, self.public = keys(path.parent, "ours")
        self.found = bundle.write(path, self.folder, self.private)
        self.file = self.folder / "model.onnx"
        self.session = exported.session(self.file)

    def difference(self, *size: int) -> Difference:
        found = Difference()
        found.add(self.net, self.session, size, seed=sum(size))  # type: ignore[arg-type]
        return found


@pytest.fixture(scope="module")
def bordered(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A net with the reference's padding of 100 pixels, which torch computes apart from the image."""
    path = tmp_path_factory.mktemp("pad100") / "net.safetensors"
    architecture = META.architecture | {"backbone": "vgg16", "pad": 100}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "vgg16", NARROW)
        torch.manual_seed(1)
        net = build(**architecture, preprocessing=META.preprocessing).eval()
        for name, parameter in net.named_parameters():
            if "score" in name:
                torch.nn.init.normal_(parameter)
        assert net.separate_border
        model_file.save(path, net.state_dict(), replace(META, architecture=architecture, params={"seed": 7}))
        return Case(path, net)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A net with `pad: same`, batch norm, a second input and a second score path."""
    path = tmp_path_factory.mktemp("same") / "net.safetensors"
    net_of(path, geometric=3, rgb=3, depth=1)
    state, meta = model_file.load(path)
    scaled = {name: tensor / 20 if name.startswith("score") else tensor for name, tensor in state.items()}
    model_file.save(path, scaled, meta)
    return Case(path, model_file.build(path)[0])


@pytest.fixture(params=["bordered", "doubled"])
def case(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.slow
def test_logits_and_classes_are_those_of_torch_at_random_sizes(case: Case) -> None:
    sides = random.Random(5)
    for _ in range(4):
        found = case.difference(1, sides.randint(33, 200), sides.randint(33, 200))
        assert 1 < found.largest < 50
        assert found.logits <= MOST
        assert found.other <= 1  # where two logits are closer than rounding


@pytest.mark.slow
def test_a_batch_and_a_single_pixel_are_images_too(case: Case) -> None:
    for size in ((3, 40, 57), (1, 1, 1), (2, 1, 70)):
        found = case.difference(*size)
        assert (found.logits <= MOST, found.other) == (True, 0)


@pytest.mark.slow
def test_the_file_describes_inputs_outputs_and_classes(bordered: Case, doubled: Case) -> None:
    def shapes(values: Any) -> dict[str, tuple[str, list[object]]]:
        return {value.name: (value.type, value.shape) for value in values}

    free = ["batch", "height", "width"]
    assert shapes(bordered.session.get_inputs()) == {"image": ("tensor(uint8)", [*free, 3])}
    assert shapes(doubled.session.get_inputs()) == {
        "image": ("tensor(uint8)", [*free, 3]),
        "depth": ("tensor(uint8)", [*free, 1]),
    }
    assert shapes(doubled.session.get_outputs()) == {
        "logits": ("tensor(float)", ["batch", 8, "height", "width"]),
        "classes": ("tensor(uint8)", free),
        "geometric_logits": ("tensor(float)", ["batch", 3, "height", "width"]),
        "geometric_classes": ("tensor(uint8)", free),
    }
    facts = doubled.session.get_modelmeta().custom_metadata_map
    _, meta = model_file.load(doubled.path)
    assert meta.labels is not None
    assert meta.geometric is not None
    assert json.loads(facts["fcn.names"]) == list(meta.labels.names)
    assert json.loads(facts["fcn.geometric_names"]) == list(meta.geometric.names)
    assert json.loads(facts["fcn.palette"]) == [list(colour) for colour in meta.labels.palette]
    assert {name: each["channels"] for name, each in json.loads(facts["fcn.inputs"]).items()} == {
        "image": 3,
        "depth": 1,
    }
    assert json.loads(bordered.session.get_modelmeta().custom_metadata_map["fcn.params"]) == {"seed": 7}


@pytest.mark.slow
def test_the_file_is_valid_whole_and_names_no_path_of_this_machine(case: Case) -> None:
    model = onnx.load(case.file)
    onnx.checker.check_model(model, full_check=True)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    content = case.file.read_bytes()
    assert not [path for path in (ROOT, Path(torch.__file__).parent) if str(path).encode() in content]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenVINO's own
def test_openvino_gives_each_pixel_the_same_class(case: Case) -> None:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(case.file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    generator = np.random.default_rng(3)
    for size in ((1, 33, 47), (2, 70, 52)):
        inputs = {
            each.name: generator.integers(0, 256, (*size, each.shape[3]), np.uint8)
            for each in case.session.get_inputs()
        }
        outputs = compiled(inputs)
        for each, expected in zip(case.session.get_outputs(), case.session.run(None, inputs), strict=True):
            if each.name.endswith("classes"):
                np.testing.assert_array_equal(outputs[each.name], expected)
            else:
                np.testing.assert_allclose(outputs[each.name], expected, rtol=0, atol=MOST)


@pytest.mark.slow
def test_the_folder_is_whole_signed_and_its_card_has_its_digests(doubled: Case) -> None:
    names = {"model.safetensors", "model.onnx", "labels.json", "README.md", "model.sig"}
    assert {path.name for path in doubled.folder.iterdir()} == names
    assert (doubled.folder / "model.safetensors").read_bytes() == doubled.path.read_bytes()
    labels = json.loads((doubled.folder / "labels.json").read_text())
    assert labels["labels"][0] == {"name": "sky", "colour": [70, 130, 180]}
    assert [len(labels[key]) for key in ("labels", "geometric_labels")] == [8, 3]
    text = (doubled.folder / "README.md").read_text()
    for name in ("model.safetensors", "model.onnx", "labels.json"):
        assert f"| {name} | sha256 {files.sha256(doubled.folder / name)} |" in text
    assert (0 < doubled.found.logits <= MOST, doubled.found.other) == (True, 0)
    signature.check(doubled.folder, doubled.public)


@pytest.mark.usefixtures("narrow_vgg16")
def test_a_net_to_export_is_the_same_net_without_a_border_apart() -> None:
    torch.manual_seed(2)
    net = build(**META.architecture | {"backbone": "vgg16", "pad": 100}, preprocessing=META.preprocessing).double()
    net.eval()
    for name, parameter in net.named_parameters():
        if "score" in name:
            torch.nn.init.normal_(parameter)
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 37, 50), np.uint8))
    expected = net(image)
    torch.testing.assert_close(exported.plain(net)(image), expected, rtol=1e-12, atol=1e-12)
    assert net.separate_border  # the net itself is as it was
    torch.testing.assert_close(net(image), expected, rtol=0, atol=0)


def test_a_backbone_and_a_net_without_classes_are_refused_in_a_line(tmp_path: Path, fcn: Fcn) -> None:
    net_of(tmp_path / "net.safetensors")
    state, meta = model_file.load(tmp_path / "net.safetensors")
    model_file.save(tmp_path / "nameless.safetensors", state, replace(meta, labels=None))
    _, _, code = fcn("export", "nameless.safetensors", "--out", "out")
    assert code == "error: nameless.safetensors holds no class names; use a model file made by `dvc repro`"
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_not_replaced(tmp_path: Path, fcn: Fcn) -> None:
    net_of(tmp_path / "net.safetensors")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    _, _, code = fcn("export", "net.safetensors", "--out", "out")
    assert code == "error: out exists; choose another folder, or delete it first"
    assert (
        fcn("export", "net.safetensors", "--out", ".")[2]
        == "error: . exists; choose another folder, or delete it first"
    )
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_without_the_packages_a_line_says_how_to_install_them(fcn: Fcn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name.startswith("onnx") else object())
    _, _, code = fcn("export", "--out", "out")
    line = "`fcn export` needs onnx and onnxruntime and onnxscript, not installed here; "
    assert code == f"error: {line}`uv pip install 'onnx>=1.19' 'onnxruntime>=1.23' 'onnxscript>=0.5'`"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*command.EXPORTING.values(), *command.SIGNING.values()} == set(extras["export"])
    assert set(extras["export"]) <= set(extras["dev"])
