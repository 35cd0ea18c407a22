"""Names of images that a table could take for something else: from their files to the files of predictions."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from makers import packed_split
from PIL import Image
from report_files import written

from fcn.data.labels import Labels
from fcn.data.split import Split
from fcn.data.tiles import Tiling
from fcn.datasets import packing
from fcn.datasets.sources import Sample
from fcn.evaluation import review
from fcn.metrics import scores
from fcn.models import FCN
from fcn.models.layers import TORCHVISION
from fcn.runtime.distributed import SINGLE
from fcn.runtime.errors import UserError
from fcn.weights import model_file
from stages import evaluate

TWO = Labels(("null", "NA"), ((128, 64, 128), (64, 128, 0)))
NAMES = ["NA", "null", "None", "nan", "NULL", "1e5", "007", "True", "7", " a b ", 'q"uote', "com,ma", "ä", "#1", "=1+1"]


def samples(folder: Path, names: list[str]) -> list[Sample]:
    """Pictures of 8×6, each of its own shade, and masks of two classes."""
    found = []
    for i, name in enumerate(names):
        found.append(Sample(name, folder / f"{i}.png", folder / f"{i}_mask.png"))
        Image.fromarray(np.full((6, 8, 3), 10 * i, np.uint8)).save(found[-1].image)
        Image.fromarray((np.arange(48, dtype=np.uint8) % 2).reshape(6, 8)).save(found[-1].mask)
    return found


def packed(folder: Path, names: list[str]) -> Split:
    return packed_split(samples(folder, names), TWO, folder)


def test_each_name_is_kept_as_it_is_from_packing_to_the_tables_of_the_report(tmp_path: Path) -> None:
    split = packed(tmp_path, NAMES)
    assert [split.name(i) for i in range(len(split))] == NAMES
    model = tmp_path / "fcn32s.safetensors"
    architecture = {"num_classes": 2, "stride": 32, "backbone": "slim", "pad": "same"}
    meta = model_file.Meta(architecture, TORCHVISION, TWO, None, None, 1, 1, {})
    model_file.save(model, FCN(2, 32, "slim", pad="same").state_dict(), meta)
    paths = argparse.Namespace(models=[model], predictions=tmp_path / "predictions", data=tmp_path)
    ((_, _, (counts,)),) = evaluate._counted(paths, split, SINGLE)
    assert int(counts.confusion.sum()) == 48 * len(NAMES)
    assert {path.name for path in (tmp_path / "predictions/fcn32s").iterdir()} == {f"{name}.png" for name in NAMES}
    found = review.review(split, tmp_path / "predictions", {"fcn32s": scores.image_mean_iu(counts.images).numpy()})
    images, _ = found.tables(split)
    metric = tmp_path / "metrics"
    metric.mkdir()
    found_scores = {"fcn32s": scores.scores(counts.confusion).asdict()}
    content = written(metric, "scenes", TWO, {"fcn32s": counts.confusion}, found_scores)
    images.to_csv(metric / "images.csv", index=False)
    gathered = content.content()
    assert gathered.images["image"].tolist() == NAMES
    assert gathered.classes.index.tolist() == ["null", "NA"]


@pytest.mark.parametrize("name", ["", ".", "..", "../../evil", "a/b", "/tmp/evil", "a\0b", "a\nb", "a\x1b[31m", "a\rb"])
def test_an_index_with_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    packed(tmp_path, ["plain"])
    path = tmp_path / "val.csv"
    path.write_bytes(path.read_bytes().replace(b"plain", f'"{name}"'.encode()))
    with pytest.raises(UserError, match=r"val\.csv.*; run `dvc repro resize`") as caught:
        Split(tmp_path, "val")
    assert str(caught.value).isprintable()


def test_an_index_in_which_two_images_share_a_name_is_refused(tmp_path: Path) -> None:
    packed(tmp_path, ["one", "two"])
    path = tmp_path / "val.csv"
    path.write_text(path.read_text().replace("two", "one"))
    with pytest.raises(UserError, match=r"val\.csv: id 'one' is duplicated; run `dvc repro resize`"):
        Split(tmp_path, "val")


@pytest.mark.parametrize("name", ["../evil", "a\nb", ".."])
def test_a_name_that_is_no_file_name_is_refused_before_anything_is_packed(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a valid file name") as caught:
        packed(tmp_path, [name])
    assert len(str(caught.value).splitlines()) == 1


def test_a_tile_that_gets_the_name_of_another_image_is_refused(tmp_path: Path) -> None:
    large, small = samples(tmp_path, ["0", "0_y00000_x00000"])
    for path in (small.image, small.mask):
        Image.open(path).crop((0, 0, 8, 4)).save(path)
    with pytest.raises(UserError, match="0_y00000_x00000 is listed 2 times in val"):
        packing.pack([large, small], TWO, "native", False, "val", tmp_path, Tiling(8, 4, 0))
