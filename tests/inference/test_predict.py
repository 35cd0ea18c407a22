"""fcn predict and fcn visualize, as a person types them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Fcn
from model_files import META, noise
from PIL import Image

from fcn.data.split import Split
from fcn.inference import batch, prediction
from fcn.metrics import counting
from fcn.models import FCN
from fcn.runtime.errors import UserError
from fcn.weights import model_file


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of a net that was never trained, and says otherwise."""
    path = tmp_path_factory.mktemp("model") / "fcn8s.safetensors"
    torch.manual_seed(1)
    net = FCN(8, 8, "slim", pad="same")
    for name, parameter in net.named_parameters():
        if name.startswith("score"):  # so that all classes win somewhere
            torch.nn.init.normal_(parameter)
    model_file.save(path, net.state_dict(), META)
    return path


def test_masks_are_the_argmax_of_the_whole_images_logits(fcn: Fcn, model: Path) -> None:
    image = noise(90, 70)
    image.save("a.png")
    assert fcn("predict", "a.png", "--model", model, "--out", "out", "--confidence", "--overlays", "--sheet")[2] == 0
    net, _ = model_file.build(model)
    with torch.no_grad():
        logits = net(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])[0]
    mask = Image.open("out/a.png")
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), logits.argmax(0).numpy())
    assert len(np.unique(np.asarray(mask))) > 2
    assert mask.getpalette()[:6] == [70, 130, 180, 152, 200, 120]  # type: ignore[index]
    sure = np.asarray(Image.open("out/confidence/a.png")).astype(float)
    assert np.abs(sure - 255 * logits.softmax(0).max(0)[0].numpy()).max() <= 0.51
    blend = np.asarray(Image.open("out/overlays/a.png")).astype(int)
    half = (np.asarray(image).astype(int) + np.asarray(mask.convert("RGB"))) / 2
    assert np.abs(blend - half).max() <= 1
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.png", "confidence", "overlays", "sheet.png"]


def test_a_large_image_in_small_tiles_gets_the_same_mask(model: Path) -> None:
    net, _, _ = prediction.load(model)
    image = noise(40, 1200)
    told: list[float] = []
    (whole,) = prediction.predict(net, image, tile=2000)
    (tiled,) = prediction.predict(net, image, tile=640, progress=told.append)
    assert (whole.mask != tiled.mask).mean() < 1e-3  # ties that are rounded otherwise
    assert len(told) > 1
    assert sum(told) == pytest.approx(1)


def test_predict_says_what_evaluate_says(fcn: Fcn, model: Path, packed: Path) -> None:
    split = Split(packed, "val")
    net, _ = model_file.build(model)
    expected = {split.name(i): found.numpy() for i, _, (found,) in counting.predictions(net, split)}
    Path("val").mkdir()
    for i in range(len(split)):
        Image.fromarray(split.image(i)).save(f"val/{split.name(i)}.png")
    assert "wrote the masks of 4 images" in fcn("predict", "val", "--model", model, "--out", "out")[0]
    for name, mask in expected.items():
        assert (np.asarray(Image.open(f"out/{name}.png")) == mask).mean() > 0.999  # a batch may round otherwise


def test_broken_files_are_named_and_the_others_done(fcn: Fcn, model: Path) -> None:
    Path("in").mkdir()
    noise(20, 30).save("in/good.png")
    noise(20, 30).save("in/odd.jpg")
    Path("in/cut.png").write_bytes(Path("in/good.png").read_bytes()[:200])
    Path("in/text.png").write_text("no picture")
    out, err, code = fcn("predict", "in", "none.png", "--model", model, "--out", "out")
    assert [line.split(" (")[0] for line in err.splitlines()] == [
        "error: none.png is missing",
        f"error: {Path.cwd()}/in/cut.png cannot be decoded",
        f"error: {Path.cwd()}/in/text.png cannot be decoded",
    ]
    assert code == "error: 3 inputs failed; the lines above say why"
    assert "wrote the masks of 2 images" in out
    assert sorted(p.name for p in Path("out").iterdir()) == ["good.png", "odd.png"]


def test_where_nothing_could_be_predicted_only_errors_are_printed(fcn: Fcn, model: Path) -> None:
    out, err, code = fcn("predict", "typo.jpg", "--model", model, "--out", "out")
    assert err == "error: typo.jpg is missing\n"
    assert code == "error: 1 input failed; the lines above say why"
    assert "wrote" not in out
    assert not Path("out").exists()


def test_results_neither_collide_nor_leave_their_folder() -> None:
    names = ["a/x.png", "b/x.png", "b/x.jpg", "b/X.tif", "b/x.jpg.png", "b/overlays/y.png", "b/y.png", "b/sheet.png"]
    found = [(Path("/in"), Path("/in") / name) for name in names]
    targets = batch.name(found, batch.Outputs(Path("/out"), overlays=True, confidence=True, sheet=True))
    files = [path for paths in targets.values() for path in paths.values()]
    assert len({str(path).casefold() for path in files}) == len(files) == 3 * len(names)
    assert all(path.is_relative_to("/out") and ".." not in path.parts for path in files)
    assert targets[Path("/in/a/x.png")]["mask"] == Path("/out/a/x.png")
    assert targets[Path("/in/b/x.jpg")]["mask"] == Path("/out/b/x.jpg.png")


def test_files_named_one_by_one_keep_the_folders_in_which_they_differ() -> None:
    found = [(Path("/in/a"), Path("/in/a/x.png")), (Path("/in/b"), Path("/in/b/x.png"))]
    targets = batch.name(found, batch.Outputs(Path("/out")))
    assert [paths["mask"] for paths in targets.values()] == [Path("/out/a/x.png"), Path("/out/b/x.png")]
    (only,) = batch.name(found[:1], batch.Outputs(Path("/out"))).values()
    assert only == {"mask": Path("/out/x.png")}


def test_an_image_is_never_overwritten(fcn: Fcn, model: Path) -> None:
    noise(9, 9).save("a.png")
    before = Path("a.png").read_bytes()
    assert "is one of the images; name another folder" in str(
        fcn("predict", "*.png", "--model", model, "--out", ".")[2]
    )
    assert Path("a.png").read_bytes() == before


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path)
    found = [(tmp_path / side, tmp_path / side / "x.png") for side in "ab"]
    with pytest.raises(UserError, match="is a link out of"):
        batch.name(found, batch.Outputs(tmp_path / "out"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--model", "none.safetensors"], "error: none.safetensors is missing; run `dvc checkout`, or `dvc repro` if"),
        (["--tile", "100"], "error: tiles of 100 pixels are too small for this net; write"),
    ],
)
def test_a_users_mistake_is_one_line(fcn: Fcn, model: Path, words: list[str], line: str) -> None:
    noise(600, 9).save("a.png")
    _, err, code = fcn("predict", "a.png", "--model", model, "--out", "out", *words)
    assert (f"{err}{code}").startswith(line)
    assert "Traceback" not in err


def test_visualize_draws_the_same_images_for_the_same_seed(fcn: Fcn, model: Path, packed: Path) -> None:
    from fcn.inference import visualization

    net, _, _ = prediction.load(model)
    split = Split(packed, "val")
    runs = [list(visualization.visualize(net, split, 3, seed, Path(f"{i}"))) for i, seed in enumerate((5, 5, 6, 7))]
    assert [p.name for p in runs[0]] == [p.name for p in runs[1]]
    assert len({tuple(p.name for p in run) for run in runs}) > 1
    assert len(runs[0]) == 3 * 3 + 1
    name = runs[0][0].name.partition(".")[0]
    i = [split.name(k) for k in range(len(split))].index(name)
    assert np.array_equal(np.asarray(Image.open(f"0/{name}.image.png")), split.image(i))
    assert np.array_equal(np.asarray(Image.open(f"0/{name}.truth.png")), split.mask(i))
    with Image.open(f"0/{name}.prediction.png") as mask:
        assert mask.mode == "P"


@pytest.mark.slow
def test_a_large_raster_takes_little_memory_beyond_itself(model: Path, tmp_path: Path) -> None:
    """2500×2500 for 8000×8000, which takes minutes: what it would take more, as a picture and a mask, is added."""
    noise(500, 500).resize((2500, 2500)).save(tmp_path / "a.png", compress_level=1)
    program = (
        "import sys; from fcn.__main__ import main\n"
        f"sys.argv = ['fcn', 'predict', {str(tmp_path / 'a.png')!r}, '--model', {str(model)!r}, "
        f"'--out', {str(tmp_path / 'out')!r}]\n"
        "main(); print(open('/proc/self/status').read())"  # getrusage would count the process that began this one
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    more = 8000**2 - 2500**2
    peak = re.search(r"VmHWM:\s*(\d+) kB", done.stdout)
    assert peak
    assert int(peak[1]) * 1024 + more * (4 + 1) < 2 << 30
    with Image.open(tmp_path / "out" / "a.png") as mask:
        assert mask.size == (2500, 2500)
