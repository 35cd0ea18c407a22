"""What is shown of a net while it is trained: the same images each time, at no cost to the training."""

import base64
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from makers import packed_split
from PIL import Image

from fcn.data.labels import VOID, Labels, UInt8
from fcn.data.split import Split
from fcn.datasets.sources import Sample
from fcn.metrics import counting
from fcn.models import FCN
from fcn.models.layers import PREPROCESSINGS
from fcn.params import Params
from fcn.rungs import checkpoint, previews, rung
from fcn.rungs.previews import Preview, preview_steps
from fcn.runtime import machine
from fcn.runtime.distributed import Group
from fcn.training.steps import Step
from fcn.weights import model_file

TWO = Labels(("no", "yes"), ((0, 114, 178), (230, 159, 0)))


@pytest.mark.parametrize(
    ("iterations", "every", "steps"),
    [
        (0, 150, []),
        (600, 150, [150, 300, 450, 600]),
        (500, 200, [200, 400, 500]),
        (100, 200, [100]),
        (1500, 100, [100, 300, 500, 700, 900, 1100, 1300, 1500]),
    ],
)
def test_at_most_eight_validations_are_shown_the_last_among_them(iterations: int, every: int, steps: list[int]) -> None:
    assert preview_steps(iterations, every) == steps


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Six images of 20×10 and 10×30; image i is grey i, its mask's left half class 0, the right class 1, one void."""
    samples = []
    for i in range(6):
        width, height = ((20, 10), (10, 30))[i % 2]
        mask = np.zeros((height, width), np.uint8)
        mask[:, width // 2 :] = 1
        mask[0, 0] = VOID
        Image.new("RGB", (width, height), (40 * i,) * 3).save(tmp_path / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / f"{i}_mask.png")
        samples.append(Sample(str(i), tmp_path / f"{i}.png", tmp_path / f"{i}_mask.png"))
    return packed_split(samples, TWO, tmp_path)


def decoded(png: str) -> UInt8:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def test_predictions_of_images_spread_over_the_split_stand_side_by_side(split: Split) -> None:
    preview = Preview(split)
    assert preview.indices == [0, 1, 3, 5]
    for i in range(6):
        height, width = split.size(i)
        preview.keep(i, torch.full((height, width), i % 2))
    mask = decoded(preview.gathered())
    # 20×10 becomes 320×160; 10×30, three times, 53×160; four pixels of void between them.
    assert mask.shape == (160, 320 + 3 * (4 + 53))
    assert (mask[:, :320] == 0).all()
    assert (mask[:, 320:324] == VOID).all()
    assert (mask[:, 324:377] == 1).all()


def test_what_processes_predict_apart_is_put_together(split: Split) -> None:
    """A group's sum, of two processes that have every second image; the leader has those of 0, the other the rest."""
    alone, first, second = Preview(split), Preview(split), Preview(split)
    for i in range(6):
        height, width = split.size(i)
        prediction = torch.randint(0, 2, (height, width), generator=torch.Generator().manual_seed(i))
        alone.keep(i, prediction)
        (first, second)[i % 2].keep(i, prediction)

    class Two(Group):
        def sum(self, values: torch.Tensor) -> torch.Tensor:
            other = torch.from_numpy(np.concatenate([VOID - mask.ravel() for mask in second.predictions])).int()
            return values + other

    assert (decoded(first.gathered(Two())) == decoded(alone.gathered())).all()


def test_the_picture_shows_images_truth_and_steps_in_the_classes_colours(split: Split) -> None:
    preview = Preview(split)
    for i in preview.indices:
        preview.keep(i, [torch.ones(split.size(i), dtype=torch.int64)])
    picture = preview.picture({"150": preview.gathered()})
    assert picture.size == (90 + 320 + 3 * 57, 3 * 160 + 2 * 4)
    assert picture.getpixel((90 + 10, 80)) == (0, 0, 0)  # image 0
    assert picture.getpixel((90 + 100, 164 + 80)) == TWO.palette[0]  # its truth, left
    assert picture.getpixel((90 + 300, 164 + 80)) == TWO.palette[1]  # right
    assert picture.getpixel((90 + 100, 328 + 80)) == TWO.palette[1]  # predicted


def test_the_pictures_of_the_grid_are_the_same_from_each_validation_and_from_the_whole_picture(split: Split) -> None:
    preview, pngs = Preview(split), {}
    for step in (150, 300):
        for i in preview.indices:
            preview.keep(i, [torch.full(split.size(i), step // 300)])
        pngs[str(step)] = preview.gathered()
    alone = preview.columns("fcn8s", 150, pngs["150"]) | preview.columns("fcn8s", 300, pngs["300"])
    whole = previews.columns(preview.picture(pngs), preview.layout(), "fcn8s", [150, 300])
    assert sorted(alone) == sorted(
        (f"validation/fcn8s_{i + 1}_{name}", step) for i, name in enumerate("0135") for step in (150, 300)
    )
    assert {at: picture.tobytes() for at, picture in alone.items()} == {at: p.tobytes() for at, p in whole.items()}
    first = alone["validation/fcn8s_2_1", 300]  # 10×30
    assert first.size == (53, 3 * 160 + 2 * 4)
    assert [first.getpixel((10, y)) for y in (80, 244, 408)] == [(40, 40, 40), TWO.palette[0], TWO.palette[1]]
    assert alone["validation/fcn8s_2_1", 150].getpixel((10, 408)) == TWO.palette[0]
    assert previews.columns(preview.picture(pngs), preview.layout(), "fcn8s", [150]) == {}  # of another training


def test_looking_at_predictions_changes_no_count(split: Split) -> None:
    net = FCN(2, 32, "slim", pad="same").eval()
    preview = Preview(split)
    (counts,) = counting.count(net, split, preview.keep)
    assert torch.equal(counting.count(net, split)[0].confusion, counts.confusion)
    assert all((mask != VOID).all() for mask in preview.predictions)


def height(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.height


def test_a_rung_leaves_the_same_picture_and_weights_after_a_kill_as_without_one(
    small: Callable[..., Params], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, note = small(), rung._record_step
    monkeypatch.setattr(checkpoint, "SAVE_EVERY", 0.0)

    def die(step: Step, *others: Any) -> None:
        if step.number == 3:
            raise KeyboardInterrupt
        note(step, *others)

    results = []
    for name in ("killed", "whole"):
        folder = tmp_path / name
        paths = prepared(folder, packed)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(machine, "root", lambda folder=folder: folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        if name == "killed":
            monkeypatch.setattr(rung, "_record_step", die)
            with pytest.raises(KeyboardInterrupt):
                rung.train_rung(stride=32, params=experiment, **paths)
            assert height(paths["validation"]) == 3 * previews.SIDE + 2 * previews.GAP  # so far
            paths["validation"].unlink()  # as DVC does
            monkeypatch.setattr(rung, "_record_step", note)
        rung.train_rung(stride=32, params=experiment, **paths)
        assert height(paths["validation"]) == 4 * previews.SIDE + 3 * previews.GAP
        results.append((paths["validation"].read_bytes(), paths["out"].read_bytes()))
        assert len(list(folder.glob("**/validation/step_*.png"))) == 2  # among the artifacts of the stage's run
        grid = [path.name.partition("+timestamp")[0] for path in folder.glob("mlartifacts/*/artifacts/images/*.png")]
        pictures = {f"validation~fcn32s_{i}_val_000{i - 1}+step+{step}" for i in range(1, 5) for step in (2, 4)}
        assert sorted(grid) == sorted(pictures)  # of the row, none twice
    assert results[0] == results[1]


def prepared(folder: Path, packed: Path) -> dict[str, Any]:
    """A folder in which FCN-32s can be trained, and the paths that its stage is given."""
    folder.mkdir()
    for name in ("dvc.yaml", "fcn", "stages", "data/pins"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, folder / name)
    shutil.copytree(packed, folder / "data/resized")
    torch.manual_seed(1)
    net = FCN(1, 32, "slim", pad="same")
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("score")}
    meta = model_file.Meta({"backbone": "slim"}, PREPROCESSINGS["torchvision"], None, None, None, 0, 2, {})
    model_file.save(folder / "data/weights/backbone.safetensors", state, meta)
    (folder / "data/weights/published/fcn32s").mkdir(parents=True)
    return {
        "data": Path("data/resized"),
        "parent": Path("data/weights/backbone.safetensors"),
        "published": Path("data/weights/published/fcn32s"),
        "out": Path("data/weights/fcn32s.safetensors"),
        "curves": Path("metrics/fcn32s"),
        "validation": Path("metrics/figures/validation_fcn32s.png"),
    }
