"""NYUDv2 and SIFT Flow, from miniatures in their makers' formats."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from conftest import MIRROR, learn_and_score
from makers import archive_of, built, encoded, version5
from PIL import Image

from fcn import models
from fcn.data.labels import VOID
from fcn.data.sampling import Sampler
from fcn.data.split import Split
from fcn.datasets import packing, resizing, sources
from fcn.datasets.label_maps import NYUD, NYUD_LABELS, SIFTFLOW, SIFTFLOW_GEOMETRIC
from fcn.datasets.sources import Sample, _matlab, nyud, siftflow
from fcn.io import download
from fcn.metrics import counting
from fcn.metrics.counting import Counts
from fcn.models.layers import TORCHVISION
from fcn.params import Params, Size
from fcn.runtime.errors import UserError
from fcn.training import steps
from fcn.training.optimizer import Optimizer

Small = Callable[..., Params]
UInt8 = npt.NDArray[np.uint8]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror folder with short lists, without a last newline; files are taken whatever their digests."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("FCN_MIRROR", str(folder))
    lists = {
        nyud: {"train": "5003", "val": "5010\n5004", "test": "5001"},
        siftflow: {"trainval": "b_2\na1", "test": "c"},
    }
    for source, splits in lists.items():
        for split, content in splits.items():
            archive = source.LISTS[split]
            (folder / archive.name).write_text(content)
            monkeypatch.setitem(source.LISTS, split, dataclasses.replace(archive, sha256=None))
    monkeypatch.setattr(nyud, "LABELED", dataclasses.replace(nyud.LABELED, sha256=None, size=None))
    return folder


def read(sample: Sample) -> resizing.Packed:
    packed = resizing.resize(sample, NYUD, "native", False)
    assert isinstance(packed, resizing.Packed), packed
    return packed


def learn(source: ModuleType, experiment: Params, splits: dict[str, list[Sample]], out: Path) -> None:
    """From raw samples to scores, as the stages would."""
    out.mkdir()
    data = experiment.data
    learned = packing.pack(splits[data.splits.train], source.LABELS, Size(32, 32), False, "train", out)
    scored = packing.pack(splits[data.splits.val], source.LABELS, Size(32, 32), False, "val", out)
    packing.refuse_shared(learned, scored)
    packing.write_labels(source.LABELS, out)
    loss, counts = learn_and_score(out, experiment)
    assert loss > 0
    assert counts.sum() > 0


def scored(experiment: Params, raw: Path, out: Path) -> tuple[Split, list[Counts]]:
    """The packed val split, and the counts of each score path of a slim net after a step, as the stages do it."""
    out.mkdir()
    data = experiment.data
    labels, geometric = sources.labels(data), sources.geometric(data)
    for role, split in (("train", data.splits.train), ("val", data.splits.val)):
        packing.pack(sources.samples(data, raw, split), labels, Size(32, 32), False, role, out)  # type: ignore[arg-type]
    packing.write_labels(labels, out)
    if geometric:
        packing.write_labels(geometric, out, "geometric.json")
    packing.write_inputs(data.inputs, out)
    train, val = Split(out, "train"), Split(out, "val")
    net = models.build(
        train.inputs,
        num_classes=len(labels.names),
        stride=32,
        backbone="slim",
        pad="same",
        geometric=len(geometric.names) if geometric else 0,
        preprocessing=TORCHVISION.extended(train.inputs),
    )
    sampler = Sampler(train, data, seed=1, stride=32, batch_size=experiment.batch_size)
    once = experiment.train.model_copy(update={"iterations": 1})
    (step,) = steps.steps(net, Optimizer(net, experiment), sampler, experiment, once)
    assert float(step.loss) > 0
    return val, counting.count(net, val)


# Classes


def test_the_894_labels_of_nyud_become_the_classes_of_their_names() -> None:
    # Some of the file's own names, and their classes in Gupta's table.
    labels = {1: "book", 2: "bottle", 3: "cabinet", 8: "dishwasher", 11: "floor", 12: "garbage bin", 21: "wall"}
    classes = ["otherprop", "otherprop", "cabinet", "otherstructure", "floor", "otherfurniture", "wall"]
    assert [NYUD.names[NYUD_LABELS[number]] for number in labels] == classes
    assert NYUD_LABELS[0] == VOID
    # mapClass of Gupta's classMapping40.mat, as two public copies have it.
    whole = bytes(NYUD_LABELS[1:] + 1)
    assert len(whole) == 894
    assert hashlib.sha256(whole).hexdigest() == "9c75cdc1ff39748751966fe8d8493b1d2ca3acda9ec861b2f70f52221d65a7bd"


def test_nyud_has_40_classes_and_siftflow_33_each_with_a_colour_of_its_own() -> None:
    for labels, count in ((NYUD, 40), (SIFTFLOW, 33)):
        assert len(set(labels.names)) == len(set(labels.palette)) == count
        assert (255, 255, 255) not in labels.palette  # which is void's
    assert [NYUD.names[i - 1] for i in (1, 10, 20, 30, 40)] == [
        *("wall", "bookshelf", "floor mat", "whiteboard", "otherprop")
    ]
    assert [SIFTFLOW.names[i - 1] for i in (1, 9, 11, 16, 28, 33)] == [
        *("awning", "cow", "desert", "moon", "sky", "window")
    ]


@pytest.mark.parametrize("code", [-1, 4, 2.5, float("nan"), float("inf"), 300])
def test_a_code_that_is_none_is_named_with_its_place(code: float) -> None:
    codes = np.array([[0, 1, 2], [3, 3, code]])
    with pytest.raises(UserError, match=r"a.mat has class .* at row 1, column 2; only 0\.\.3 are known"):
        _matlab.look_up(codes, _matlab.from_one(3), "a.mat")
    assert _matlab.look_up(codes[:, :2], _matlab.from_one(3), "a.mat").tolist() == [[VOID, 0], [2, 2]]


# NYUDv2, its makers' file


def labels_of(number: int) -> npt.NDArray[np.uint16]:
    """Labels as MATLAB has them, 480 rows of 640: wall, with other things at the corners of the part that is kept."""
    labels = np.full((480, 640), 21, np.uint16)
    labels[:45] = labels[470:] = 3  # cabinets, cut off
    labels[:, :40] = labels[:, 600:] = 3
    labels[45, 40], labels[45, 599], labels[469, 40], labels[469, 599] = 11, 5, 894, 0  # floor, chair, a prop, void
    labels[100, 200] = 8 if number == 5001 else 12  # dishwasher or garbage bin
    return labels


def image_of(number: int) -> UInt8:
    """An image as MATLAB has it, 480 rows of 640 of red, green and blue."""
    image = np.full((480, 640, 3), number % 256, np.uint8)
    image[45, 40], image[45, 599], image[469, 40] = (10, 20, 30), (40, 50, 60), (70, 80, 90)
    return image


def depth_of(number: int) -> npt.NDArray[np.float32]:
    """Depth in metres as MATLAB has it: a wall at 6 m above a floor 1.2 m below the camera of NYUDv2's toolbox.

    Rows and columns count from 1, as in the toolbox's functions.
    """
    row = np.arange(1, 481)[:, None]
    below = np.maximum(row - 2.5373616633400465e02, 1e-9) / 5.1946961112127485e02  # y / z
    depth = np.minimum(6.0, 1.2 / below) * np.ones((1, 640))
    depth[45, 40] = number / 10000  # the first pixel that is kept
    return depth.astype(np.float32)


def version73(path: Path, numbers: tuple[int, ...], change: Callable[[h5py.File], object] = lambda file: None) -> None:
    """The labeled file of NYUDv2 with some of its images, the others unwritten, as MATLAB 7.3 saves it."""
    content = {"images": image_of, "labels": labels_of, "depths": depth_of}
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, (shape, kind) in (nyud.ARRAYS | nyud.DEPTHS).items():
            array = file.create_dataset(name, shape, kind, chunks=(1, *shape[1:]), compression=1)
            array.attrs["MATLAB_class"] = np.bytes_(array.dtype.name)
            for number in numbers:
                array[number - 5001] = content[name](number).T
        word = file.create_dataset("#refs#/a", data=np.array([[ord(c)] for c in "book"], np.uint16))
        names = file.create_dataset("names", (1, 894), h5py.ref_dtype)
        names[:] = word.ref
        change(file)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def test_nyud_is_read_from_its_makers_file(mirror: Path, small: Small, tmp_path: Path) -> None:
    version73(mirror / nyud.LABELED.name, (5001, 5003, 5004, 5010))
    experiment = small(**{"data.splits.train": "trainval", "data.splits.val": "test"})
    splits = built(nyud, experiment, tmp_path / "raw")
    assert [s.name for s in splits["trainval"]] == ["img_5003", "img_5010", "img_5004"]  # train, then val
    assert [s.name for s in splits["test"]] == ["img_5001"]
    names = NYUD.names
    for sample, thing in ((splits["test"][0], "otherstructure"), (splits["trainval"][1], "otherfurniture")):
        packed = read(sample)
        assert packed.mask.shape == (425, 560)
        corners = [packed.mask[y, x] for y, x in ((0, 0), (0, 559), (424, 0), (424, 559), (55, 160))]
        assert corners[3] == VOID
        assert [names[i] for i in corners[:3] + corners[4:]] == ["floor", "chair", "otherprop", thing]
        assert (packed.mask == names.index("wall")).sum() == 425 * 560 - 5
        assert packed.image.shape == (425, 560, 3)
        pixels = [packed.image[y, x].tolist() for y, x in ((0, 0), (0, 559), (424, 0), (1, 1))]
        number = int(sample.name.removeprefix("img_"))
        assert pixels == [[10, 20, 30], [40, 50, 60], [70, 80, 90], [number % 256] * 3]
    learn(nyud, experiment, splits, tmp_path / "packed")


@pytest.mark.parametrize("inputs", ["rgb+depth", "hha", "rgb+hha", "rgb+depth+hha"])
def test_depth_and_hha_of_the_makers_file_are_written_if_they_are_inputs(
    mirror: Path, small: Small, tmp_path: Path, inputs: str
) -> None:
    version73(mirror / nyud.LABELED.name, (5001,))
    splits = {"data.splits.train": "test", "data.splits.val": "test", "data.dataset": "nyud"}
    experiment = small(**splits, **{"data.inputs": inputs})
    sources.check(experiment.data)
    built(nyud, experiment, tmp_path / "raw")
    folders = {path.name for path in (tmp_path / "raw" / "labeled").iterdir()}
    assert folders == {"image", "mask", *inputs.split("+")} - {"rgb"}
    (one,) = sources.samples(experiment.data, tmp_path / "raw", "test")
    packed = read(one).image
    assert packed.shape == (425, 560, sum({"rgb": 3, "depth": 1, "hha": 3}[name] for name in inputs.split("+")))
    if "depth" in inputs:
        depth = np.asarray(Image.open(one.beside("depth")))
        assert depth.dtype == np.uint16
        # Row 420 of the cropped image is MATLAB's row 466: 1.2 m · 519.47 / (466 - 253.74) on the floor.
        assert (depth[0, 0], depth[200, 300]) == (500, 6000)
        assert depth[420, 300] == round(1200 * 519.46961 / (466 - 253.73617))
    if "hha" in inputs:
        hha = packed[:, :, -3:]
        # The wall: 31000 / 600 cm, 120 cm above the floor where it is as high as the camera, 90 degrees from gravity.
        assert hha[208, 300].tolist() == [52, 120, 128]
        assert hha[420, 300].tolist() == [round(31000 / 120 * (466 - 253.73617) / 519.46961), 0, 38]  # the floor


def replaced(name: str, shape: tuple[int, ...], kind: str) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, kind, chunks=tuple(min(n, 8) for n in shape))

    return change


def linked(file: h5py.File) -> None:
    del file["labels"]
    file["labels"] = h5py.ExternalLink("/etc/hostname", "labels")


def unlabelled(file: h5py.File) -> None:
    file["labels"][0, 7, 3] = 895


def removed(file: h5py.File) -> None:
    del file["labels"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (removed, "array labels is missing"),
        (linked, "array labels is missing"),
        (replaced("labels", (1449, 480, 640), "u2"), "labels is 1449x480x640 of uint16, not 1449x640x480 of uint16"),
        (replaced("labels", (1449, 640, 480), "f8"), "labels is 1449x640x480 of float64, not"),
        (replaced("images", (10**9, 3, 640, 480), "u1"), "images is 1000000000x3x640x480 of uint8, not"),
        (unlabelled, r"labels\(:, :, 1\) has class 895 at row 3, column 7; only 0..894 are known"),
    ],
)
def test_a_labeled_file_with_other_content_is_refused_in_one_line(
    mirror: Path, small: Small, tmp_path: Path, change: Callable[[h5py.File], object], reason: str
) -> None:
    version73(mirror / nyud.LABELED.name, (5001,), change)
    with pytest.raises(UserError, match=rf"nyu_depth_v2_labeled\.mat.*{reason}") as caught:
        built(nyud, small(**{"data.splits.train": "test", "data.splits.val": "test"}), tmp_path / "raw")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "spoilt", "no file of HDF5's"])
def test_a_damaged_labeled_file_is_refused_in_one_line(mirror: Path, small: Small, tmp_path: Path, damage: str) -> None:
    path = mirror / nyud.LABELED.name
    version73(path, (5001,))
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        start = file["images"].id.get_chunk_info(0).byte_offset
    content[start : start + 50] = bytes(50)
    path.write_bytes({"cut": content[: len(content) // 2], "spoilt": content}.get(damage, b"no such thing"))
    with pytest.raises(UserError, match=r"nyu_depth_v2_labeled\.mat is not the expected MATLAB file") as caught:
        built(nyud, small(**{"data.splits.train": "test", "data.splits.val": "test"}), tmp_path / "raw")
    assert "\n" not in str(caught.value)


# NYUDv2, the reference's archive

DEPTH = np.array([[500, 1000, 2550], [4000, 9999, 65535]], np.uint16)  # millimetres


def reference(root: str, **change: bytes) -> dict[str, bytes]:
    files = {f"{root}benchmarkData/metadata/classMapping40.mat": b"not read"}
    for number in (5001, 5003, 5004, 5010):
        mask = np.array([[0, 1, 40], [number - 5000, 5, 20]], np.uint8)
        files[f"{root}data/images/img_{number}.png"] = encoded(np.full((2, 3, 3), number % 256, np.uint8), "PNG")
        files[f"{root}segmentation/img_{number}.mat"] = version5({"segmentation": mask})
        files[f"{root}data/depth/img_{number}.png"] = encoded(Image.fromarray(DEPTH), "PNG")
        files[f"{root}data/hha/img_{number}.png"] = encoded(
            np.full((2, 3, 3), (90, number % 200, 128), np.uint8), "PNG"
        )
    return files | {f"{root}segmentation/{name}.mat": content for name, content in change.items()}


@pytest.mark.parametrize("root", ["", "./", "nyud/"])
def test_nyud_is_read_from_the_references_archive(mirror: Path, small: Small, tmp_path: Path, root: str) -> None:
    archive_of(mirror / nyud.REFERENCE.name, reference(root))
    experiment = small(**{"data.splits.train": "reference_trainval", "data.splits.val": "reference_test"})
    splits = built(nyud, experiment, tmp_path / "raw")
    assert [s.name for s in splits["reference_trainval"]] == ["img_5003", "img_5010", "img_5004"]
    packed = read(splits["reference_trainval"][1])
    assert packed.mask.tolist() == [[VOID, 0, 39], [9, 4, 19]]
    assert (packed.image == 5010 % 256).all()
    if root == "nyud/":
        learn(nyud, experiment, splits, tmp_path / "packed")


@pytest.mark.parametrize(("inputs", "channels"), [("rgb+depth", 4), ("hha", 3), ("rgb+hha", 6)])
def test_the_references_depth_and_hha_go_from_archive_to_scores(
    mirror: Path, small: Small, tmp_path: Path, inputs: str, channels: int
) -> None:
    archive_of(mirror / nyud.REFERENCE.name, reference("nyud/"))
    splits = {"data.splits.train": "reference_trainval", "data.splits.val": "reference_test"}
    experiment = small(**splits, **{"data.dataset": "nyud", "data.inputs": inputs})
    built(nyud, experiment, tmp_path / "raw")
    packed, counts = scored(experiment, tmp_path / "raw", tmp_path / "packed")
    assert packed.image(0).shape == (32, 32, channels)
    assert [count.confusion.sum() for count in counts] == [32 * 32 - int((packed.mask(0) == VOID).sum())]
    one = sources.samples(experiment.data, tmp_path / "raw", "reference_trainval")[1]
    image = read(one).image
    if "depth" in inputs:  # 40 (ln 2550 - 5) = 113.75
        assert image[0, :, 3].tolist() == [49, 76, 114]
    if "hha" in inputs:
        assert (image[:, :, -3:] == (90, 5010 % 200, 128)).all()


def test_only_the_inputs_of_nyud_are_accepted(small: Small) -> None:
    for wanted in ("infrared", "rgb+bands"):
        with pytest.raises(UserError, match=r"data.inputs has \w+, but nyud has rgb, depth, hha only"):
            sources.check(small(**{"data.dataset": "nyud", "data.inputs": wanted, "data.splits.val": "test"}).data)
    with pytest.raises(UserError, match="nyud has no geometric labels"):
        sources.check(small(**{"data.dataset": "nyud", "data.labels": "geometric"}).data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (version5({"segmentation": np.array([[0, 41, 1]] * 2, np.uint8)}), "has class 41 at row 0, column 1"),
        (
            version5({"S": np.arange(6).reshape(2, 3)}),
            r"is not a MATLAB file with a mask segmentation \(variable segmentation is missing\)",
        ),
        (b"", "is not a MATLAB file"),
    ],
)
def test_a_wrong_mask_in_the_references_archive_is_named(
    mirror: Path, small: Small, tmp_path: Path, content: bytes, reason: str
) -> None:
    archive_of(mirror / nyud.REFERENCE.name, reference("nyud/", img_5001=content))
    with pytest.raises(UserError, match=rf"nyud\.tar\.gz: nyud/segmentation/img_5001\.mat {reason}"):
        built(
            nyud, small(**{"data.splits.train": "reference_test", "data.splits.val": "reference_val"}), tmp_path / "raw"
        )


@pytest.mark.parametrize("missing", ["data/images/img_5003.png", "segmentation/img_5004.mat"])
def test_what_the_references_archive_lacks_is_named(mirror: Path, small: Small, tmp_path: Path, missing: str) -> None:
    files = reference("nyud/")
    del files[f"nyud/{missing}"]
    archive_of(mirror / nyud.REFERENCE.name, files)
    with pytest.raises(UserError, match=f"lacks .*{missing}"):
        built(
            nyud,
            small(**{"data.splits.train": "reference_train", "data.splits.val": "reference_val"}),
            tmp_path / "raw",
        )


def test_a_split_of_nyud_names_the_file_that_it_comes_from(small: Small) -> None:
    both = nyud.archives(small(**{"data.splits.train": "trainval", "data.splits.val": "reference_val"}).data)
    assert [a.name for a in both] == [*("nyu_depth_v2_labeled.mat", "nyud_train.txt", "nyud_val.txt", "nyud.tar.gz")]
    with pytest.raises(UserError, match="nyud has no split 'reference_all'; choose from train, val, trainval, test"):
        nyud.archives(small(**{"data.dataset": "nyud", "data.splits.val": "reference_all"}).data)


# SIFT Flow


def sift(root: str, **change: bytes) -> dict[str, bytes]:
    place = "spatial_envelope_256x256_static_8outdoorcategories"
    files = {}
    for k, name in enumerate(["a1", "b_2", "c"]):
        mask = np.full((256, 256), 28.0)  # sky
        mask[255, 0], mask[0, 255], mask[10, 20] = 0, 33, k + 1  # void, window, one of the first classes
        files[f"{root}Images/{place}/{name}.jpg"] = encoded(Image.new("RGB", (256, 256), (0, 80 * k, 0)), "JPEG")
        files[f"{root}SemanticLabels/{place}/{name}.mat"] = version5({"S": mask, "names": np.array(["sky"], object)})
        geometric = np.full((256, 256), 1, np.int16)  # sky
        geometric[128:], geometric[128:, 100:] = 2, 3  # horizontal, and vertical beside it
        geometric[255, 0], geometric[0, 255] = -1, 0
        files[f"{root}GeoLabels/{place}/{name}.mat"] = version5({"S": geometric})
    return files | {f"{root}SemanticLabels/{place}/{name}.mat": content for name, content in change.items()}


@pytest.mark.parametrize("root", ["", "SiftFlowDataset/"])
def test_siftflow_gives_images_and_semantic_masks_of_its_lists(
    mirror: Path, small: Small, tmp_path: Path, root: str
) -> None:
    archive_of(mirror / siftflow.ARCHIVE.name, sift(root))
    experiment = small(**{"data.splits.train": "trainval", "data.splits.val": "test"})
    splits = built(siftflow, experiment, tmp_path / "raw")
    assert [s.name for s in splits["trainval"]] == ["b_2", "a1"]
    packed = read(splits["trainval"][0])
    assert packed.mask.shape == (256, 256)
    assert [packed.mask[255, 0], packed.mask[0, 255], packed.mask[10, 20], packed.mask[0, 0]] == [VOID, 32, 1, 27]
    assert (packed.mask == 27).sum() == 256 * 256 - 3
    assert splits["trainval"][0].image.read_bytes() in sift(root).values()  # JPEG as it was
    if root:
        learn(siftflow, experiment, splits, tmp_path / "packed")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (version5({"S": np.full((256, 256), 34)}), "has class 34 at row 0, column 0; only 0..33 are known"),
        (version5({"S": np.full((256, 256), -1)}), "has class -1 at row 0, column 0"),
        (version5({"S": np.full((256, 256), 1.5)}), "has class 1.5 at row 0, column 0"),
        (b"", "is not a MATLAB file"),
    ],
)
def test_a_wrong_mask_of_siftflow_is_named(
    mirror: Path, small: Small, tmp_path: Path, content: bytes, reason: str
) -> None:
    archive_of(mirror / siftflow.ARCHIVE.name, sift("", c=content))
    with pytest.raises(UserError, match=rf"SiftFlowDataset\.zip: SemanticLabels/.*/c\.mat {reason}"):
        built(siftflow, small(**{"data.splits.train": "trainval", "data.splits.val": "test"}), tmp_path / "raw")


def test_siftflow_goes_from_its_archive_to_the_scores_of_both_labels(
    mirror: Path, small: Small, tmp_path: Path
) -> None:
    archive_of(mirror / siftflow.ARCHIVE.name, sift(""))
    splits = {"data.splits.train": "trainval", "data.splits.val": "test", "data.dataset": "siftflow"}
    experiment = small(**splits, **{"data.labels": "semantic+geometric"})
    sources.check(experiment.data)
    built(siftflow, experiment, tmp_path / "raw")
    (one,) = sources.samples(experiment.data, tmp_path / "raw", "test")
    semantic, geometric = np.moveaxis(resizing.read(one, SIFTFLOW)[1], 2, 0)
    assert (semantic[255, 0], semantic[0, 255], semantic[0, 0]) == (VOID, 32, 27)
    names = [SIFTFLOW_GEOMETRIC.names[geometric[y, x]] for y, x in ((0, 0), (200, 50), (200, 150))]
    assert names == ["sky", "horizontal", "vertical"]
    assert (geometric[255, 0], geometric[0, 255]) == (VOID, VOID)
    val, (by_class, by_surface) = scored(experiment, tmp_path / "raw", tmp_path / "packed")
    assert by_class.confusion.shape == (33, 33)
    assert by_surface.confusion.sum(1).tolist() == val.tasks()[1].pixels().sum(0).tolist()
    assert by_surface.confusion.sum(1).tolist()[0] > 400  # half of 32 × 32 is sky


def test_geometric_labels_of_siftflow_are_learned_alone(mirror: Path, small: Small, tmp_path: Path) -> None:
    archive_of(mirror / siftflow.ARCHIVE.name, sift(""))
    splits = {"data.splits.train": "trainval", "data.splits.val": "test", "data.dataset": "siftflow"}
    experiment = small(**splits, **{"data.labels": "geometric"})
    built(siftflow, experiment, tmp_path / "raw")
    assert not (tmp_path / "raw" / "mask").exists()
    _, (counts,) = scored(experiment, tmp_path / "raw", tmp_path / "packed")
    assert counts.confusion.shape == (3, 3)


def test_a_wrong_geometric_mask_of_siftflow_is_named(mirror: Path, small: Small, tmp_path: Path) -> None:
    files = sift("")
    (name,) = (name for name in files if "GeoLabels" in name and name.endswith("/c.mat"))
    archive_of(mirror / siftflow.ARCHIVE.name, files | {name: version5({"S": np.full((256, 256), 4)})})
    splits = {"data.splits.train": "trainval", "data.splits.val": "test"}
    with pytest.raises(UserError, match=r"GeoLabels/.*/c\.mat has class 4 at row 0, column 0; only -1\.\.3 are known"):
        built(siftflow, small(**splits, **{"data.labels": "semantic+geometric"}), tmp_path / "raw")


def test_what_siftflows_archive_lacks_is_named(mirror: Path, small: Small, tmp_path: Path) -> None:
    files = {name: content for name, content in sift("").items() if "Semantic" not in name or "a1" not in name}
    archive_of(mirror / siftflow.ARCHIVE.name, files)
    with pytest.raises(UserError, match=r"lacks SemanticLabels/.*/a1\.mat"):
        built(siftflow, small(**{"data.splits.train": "trainval", "data.splits.val": "test"}), tmp_path / "raw")
    archive_of(mirror / siftflow.ARCHIVE.name, {"else": b""})
    with pytest.raises(UserError, match=r"lacks Images/.*/c\.jpg"):
        built(siftflow, small(**{"data.splits.train": "test", "data.splits.val": "test"}), tmp_path / "other")


def test_siftflow_has_no_other_splits(small: Small) -> None:
    with pytest.raises(UserError, match="siftflow has no split 'val'; choose from trainval, test"):
        siftflow.archives(
            small(**{"data.dataset": "siftflow", "data.splits.train": "trainval", "data.splits.val": "val"}).data
        )


@pytest.mark.skipif(not (MIRROR / "lists").is_dir(), reason=f"the folder {MIRROR / 'lists'} with the lists is not here")
def test_the_references_lists_are_those_whose_digests_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_MIRROR", str(MIRROR / "lists"))
    expected = {nyud: {"train": 381, "val": 414, "test": 654}, siftflow: {"trainval": 2486, "test": 200}}
    for source, counts in expected.items():
        names = {split: download.fetch(source.LISTS[split]).read_text().splitlines() for split in counts}
        assert {split: len(set(found)) for split, found in names.items()} == counts
        assert len(set().union(*names.values())) == sum(counts.values())  # no image in two splits
