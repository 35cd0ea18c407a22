"""The whole pipeline with inputs other than RGB and with two labels per pixel."""

import json

import numpy as np
import pytest
from conftest import Checkout
from mlflow_store import rows
from PIL import Image

from fcn.data.split import Split
from fcn.models import LateFusion
from fcn.weights import model_file

pytestmark = pytest.mark.slow


def test_colour_and_hha_with_two_labels_go_from_download_to_both_scores(checkout: Checkout) -> None:
    checkout.set(**{"data.inputs": "rgb+hha", "data.labels": "semantic+geometric", "model.fusion": "late"})
    checkout.run("fcn", "check")
    checkout.run("dvc", "repro")
    net, meta = model_file.build(checkout.folder / "data/weights/fcn8s.safetensors")
    assert isinstance(net, LateFusion)
    assert net.inputs == {"rgb": 3, "hha": 3}
    assert meta.geometric is not None
    assert meta.geometric.names == ("horizontal", "vertical", "sky")
    split = Split(checkout.folder / "data/resized", "val")
    for task, folder in zip(split.tasks(), ("fcn8s", "geometric/fcn8s"), strict=True):
        for i in range(len(split)):
            with Image.open(checkout.folder / f"data/predictions/{folder}/{split.name(i)}.png") as picture:
                predicted = np.asarray(picture)
            assert predicted.shape == task.mask(i).shape
            assert predicted.max() < len(task.labels.names)
    score = json.loads(checkout.read("metrics/scores.json"))["fcn8s"]
    truth = np.concatenate([split.tasks()[1].mask(i).ravel() for i in range(len(split))])
    found = np.concatenate(
        [
            np.asarray(Image.open(checkout.folder / f"data/predictions/geometric/fcn8s/{split.name(i)}.png")).ravel()
            for i in range(len(split))
        ]
    )
    valid = truth != 255
    assert score["geometric_pixel_accuracy"] == pytest.approx((truth == found)[valid].mean())
    last = checkout.read("metrics/fcn8s/val.csv").splitlines()
    assert float(last[-1].split(",")[last[0].split(",").index("geometric_pixel_accuracy")]) == pytest.approx(
        score["geometric_pixel_accuracy"]
    )
    report = checkout.read("metrics/report.md")
    assert "## Geometric labels" in report
    assert "IU of horizontal" in report
    assert "rgb+hha (late fusion)" in report
    assert "Geometric labels" in checkout.read("metrics/report.html")
    (row,) = rows(checkout).values()
    assert row.data.metrics["fcn8s.geometric_mean_iu"] == pytest.approx(score["geometric_mean_iu"], abs=5e-5)
    printed = checkout.run("fcn", "predict", "data/raw/image", "--out", "masks")
    assert "wrote the masks of" in printed
    name = split.name(0)
    with (
        Image.open(checkout.folder / f"masks/{name}.png") as one,
        Image.open(checkout.folder / f"data/predictions/fcn8s/{name}.png") as other,
    ):
        assert np.array_equal(np.asarray(one), np.asarray(other))
