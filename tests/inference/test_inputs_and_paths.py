"""fcn predict with nets that have other inputs than RGB, or two score paths."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import Fcn
from model_files import META, net_of, noise
from PIL import Image

from fcn.data.depth import encode
from fcn.datasets.label_maps import SCENES_GEOMETRIC
from fcn.inference import batch, prediction
from fcn.models import FCN
from fcn.runtime.errors import UserError
from fcn.weights import model_file


def depths(width: int, height: int, seed: int = 2) -> npt.NDArray[np.uint16]:
    """Raw depth in millimetres."""
    return np.random.default_rng(seed).integers(500, 9000, (height, width)).astype(np.uint16)


def test_both_score_paths_are_written_with_their_overlays_confidence_sheets_and_classes(fcn: Fcn) -> None:
    net = net_of(Path("net.safetensors"), geometric=3)
    image = noise(90, 70)
    image.save("a.png")
    options = ("--out", "out", "--overlays", "--confidence", "--sheet")
    out, _, code = fcn("predict", "a.png", "--model", "net.safetensors", *options)
    assert code == 0
    with torch.no_grad():
        logits = net(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])[0]
    names = ["a.png", "confidence/a.png", "overlays/a.png", "sheet.png"]
    files = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.png"))
    assert files == sorted([*names, *(f"geometric/{name}" for name in names)])
    for folder, scores, palette in (("out", logits[:8], [70, 130, 180]), ("out/geometric", logits[8:], [128, 64, 128])):
        mask = Image.open(f"{folder}/a.png")
        assert np.array_equal(np.asarray(mask), scores.argmax(0).numpy())
        assert len(np.unique(np.asarray(mask))) > 1
        assert mask.getpalette()[:3] == palette  # type: ignore[index]
        sure = np.asarray(Image.open(f"{folder}/confidence/a.png")).astype(float)
        assert np.abs(sure - 255 * scores.softmax(0).max(0)[0].numpy()).max() <= 0.51
        blend = np.asarray(Image.open(f"{folder}/overlays/a.png")).astype(int)
        half = (np.asarray(image).astype(int) + np.asarray(mask.convert("RGB"))) / 2
        assert np.abs(blend - half).max() <= 1
    assert "a mask's pixels are class numbers: 0 sky, 1 ground" in out
    assert "a mask's pixels in out/geometric are class numbers: 0 horizontal, 1 vertical, 2 sky" in out


def test_both_paths_of_an_image_in_tiles_at_another_size_are_those_of_the_whole_image(tmp_path: Path) -> None:
    net = net_of(tmp_path / "net.safetensors", geometric=3)
    image = noise(40, 1200)
    told: list[float] = []
    whole = prediction.predict(net, image, seen=(36, 1100), tile=2000)
    tiled = prediction.predict(net, image, seen=(36, 1100), tile=640, progress=told.append)
    assert whole[0].mask.max() > 2 >= whole[1].mask.max() > 0
    for one, other in zip(whole, tiled, strict=True):
        assert one.mask.shape == (1200, 40)
        assert (one.mask != other.mask).mean() < 1e-3
    assert sum(told) == pytest.approx(1)


def test_results_of_both_paths_neither_collide_nor_overwrite() -> None:
    found = [(Path("/in"), Path("/in") / name) for name in ("x.png", "geometric/x.png", "geometric/sheet.png")]
    targets = batch.name(found, batch.Outputs(Path("/out"), sheet=True, geometric=True))
    files = [path for paths in targets.values() for path in paths.values()]
    assert len(set(files)) == len(files) == 6
    assert not {Path("/out/sheet.png"), Path("/out/geometric/sheet.png")} & set(files)
    with pytest.raises(UserError, match="is one of the images"):
        batch.name(found[:2], batch.Outputs(Path("/in"), geometric=True))


def test_a_net_of_geometric_labels_alone_writes_one_mask(fcn: Fcn) -> None:
    architecture = META.architecture | {"num_classes": 3}
    meta = model_file.Meta(architecture, META.preprocessing, SCENES_GEOMETRIC, None, None, 1, 1, {})
    model_file.save(Path("net.safetensors"), FCN(3, 8, "slim", pad="same").state_dict(), meta)
    noise(20, 30).save("a.png")
    out, _, code = fcn("predict", "a.png", "--model", "net.safetensors", "--out", "out")
    assert code == 0
    assert [path.name for path in Path("out").iterdir()] == ["a.png"]
    assert "0 horizontal, 1 vertical, 2 sky" in out


def test_a_model_file_with_two_paths_but_the_classes_of_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    net_of(path, geometric=3)
    state, meta = model_file.load(path)
    model_file.save(path, state, replace(meta, geometric=None, sha256=None))
    with pytest.raises(UserError, match="holds no class names"):
        prediction.load(path)


@pytest.mark.parametrize("folder", ["image", "images"])
def test_further_inputs_are_read_beside_the_image(fcn: Fcn, folder: str) -> None:
    net = net_of(Path("net.safetensors"), rgb=3, depth=1)
    image, depth = noise(50, 40), depths(50, 40)
    for kind, picture in ((folder, image), ("depth", Image.fromarray(depth))):
        Path("in", kind).mkdir(parents=True)
        picture.save(f"in/{kind}/a.png")
    assert fcn("predict", f"in/{folder}", "--model", "net.safetensors", "--out", "out")[2] == 0
    channels = np.concatenate([np.asarray(image), encode(depth)[:, :, None]], 2)
    with torch.no_grad():
        expected = net(torch.from_numpy(channels).permute(2, 0, 1)[None])[0].argmax(0)
    assert np.array_equal(np.asarray(Image.open("out/a.png")), expected.numpy())
    Path("in/depth/a.png").unlink()
    _, err, _ = fcn("predict", f"in/{folder}", "--model", "net.safetensors", "--out", "out")
    assert err.startswith(f"error: {Path.cwd()}/in/depth/a.png is missing")
