"""ADE20K and PASCAL-Context, from archives in their makers' formats to a step of training and a score."""

import dataclasses
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import MIRROR, learn_and_score
from makers import archive_of, built, encoded, version5
from PIL import Image

from fcn.data.labels import VOID
from fcn.datasets import packing, resizing, sources
from fcn.datasets.label_maps import ADE20K, ADE20K151, CONTEXT59, CONTEXT59_CODES
from fcn.datasets.sources import Sample, _ade20k, _context, ade20k, ade20k151, context59, context60
from fcn.experiments import plan
from fcn.params import Params
from fcn.runtime.errors import UserError

Small = Callable[..., Params]


def photograph(seed: int, kind: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    return encoded(Image.fromarray(pixels).convert(kind), "JPEG")


def blocks(codes: list[list[int]], kind: Any = np.uint8) -> npt.NDArray[Any]:
    """A mask of 32×48 (height × width): each code is a square of 16×16 = 256 pixels."""
    return np.kron(np.array(codes, kind), np.ones((16, 16), kind))


def pack(source: Any, splits: dict[str, list[Sample]], out: Path) -> Path:
    out.mkdir()
    train, val = splits.values()
    learned = packing.pack(train, source.LABELS, "native", False, "train", out)
    packing.refuse_shared(learned, packing.pack(val, source.LABELS, "native", True, "val", out))
    packing.write_labels(source.LABELS, out)
    return out


def mask(sample: Sample, source: Any) -> npt.NDArray[np.uint8]:
    packed = resizing.resize(sample, source.LABELS, "native", True)
    assert isinstance(packed, resizing.Packed), packed
    assert packed.image.shape == (32, 48, 3)
    return packed.mask


# ADE20K

ADE = {"data.splits.train": "training", "data.splits.val": "validation"}
ADE_CODES = [[0, 1, 2], [150, 13, 0]]


@pytest.fixture
def ade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes ADEChallengeData2016.zip with two photographs, one of them grey, and one to score on."""

    def write(codes: list[list[int]] = ADE_CODES, without: str = "") -> Path:
        files = {
            "objectInfo150.txt": b"Idx\tRatio\tTrain\tVal\tName\n",
            "sceneCategories.txt": b"ADE_train_00000001 x\n",
        }
        seed = 0
        for split, prefix, count in (("training", "ADE_train", 2), ("validation", "ADE_val", 1)):
            for number in range(1, count + 1):
                seed += 1
                name = f"{prefix}_{number:08d}"
                files[f"images/{split}/{name}.jpg"] = photograph(seed, "L" if seed == 2 else "RGB")
                files[f"annotations/{split}/{name}.png"] = encoded(blocks(codes), "PNG")  # grey, as ADE20K's masks are
        path = tmp_path / "ADEChallengeData2016.zip"
        whole = {"images/": b"", **{name: content for name, content in files.items() if name != without}}
        archive_of(path, {f"ADEChallengeData2016/{name}": content for name, content in whole.items()})
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
        monkeypatch.setattr(_ade20k, "ARCHIVE", dataclasses.replace(_ade20k.ARCHIVE, sha256=digest, size=None))
        monkeypatch.setattr(_ade20k, "SPLITS", {"training": ("ADE_train", 2), "validation": ("ADE_val", 1)})
        return path

    return write


@pytest.mark.parametrize(
    ("source", "dataset", "expected", "pixels"),
    [
        # Wall, code 1, is the first of 150 classes, flag, code 150, the last; 0 is void.
        (ade20k, "ade20k", [[VOID, 0, 1], [149, 12, VOID]], {0: 256, 1: 256, 12: 256, 149: 256}),
        # Of 151 classes each is its own code, and 0 is one.
        (ade20k151, "ade20k151", [[0, 1, 2], [150, 13, 0]], {0: 512, 1: 256, 2: 256, 13: 256, 150: 256}),
    ],
)
def test_ade20k_is_learned_and_scored_from_its_archive_in_either_coding(
    source: ModuleType,
    dataset: str,
    expected: list[list[int]],
    pixels: dict[int, int],
    ade: Callable[..., Path],
    small: Small,
    tmp_path: Path,
) -> None:
    ade()
    experiment = small(**ADE, **{"data.dataset": dataset})
    assert sources.get(dataset) is source  # type: ignore[comparison-overlap]
    splits = built(source, experiment, tmp_path / "raw")
    assert [s.name for s in splits["training"]] == ["ADE_train_00000001", "ADE_train_00000002"]
    assert [s.name for s in splits["validation"]] == ["ADE_val_00000001"]
    assert (mask(splits["training"][1], source) == blocks(expected)).all()
    loss, counts = learn_and_score(pack(source, splits, tmp_path / "packed"), experiment)
    assert loss == pytest.approx(math.log({"ade20k": 150, "ade20k151": 151}[dataset]), rel=1e-5)  # all classes alike
    truth = counts.sum(1)
    assert {int(k): int(truth[k]) for k in truth.nonzero()[:, 0]} == pixels


@pytest.mark.parametrize(("source", "first"), [(ade20k, 1), (ade20k151, 0)])
def test_a_code_beyond_150_is_named_with_its_place(
    source: ModuleType, first: int, ade: Callable[..., Path], small: Small, tmp_path: Path
) -> None:
    ade([[1, 2, 151], [3, 4, 5]])
    splits = built(source, small(**ADE), tmp_path / "raw")
    (tmp_path / "packed").mkdir()
    found = f"first at row 0, column 32: 151 .256 pixels.; classes have {first}..150, void "
    with pytest.raises(UserError, match=f"ADE_val_00000001.png has codes that are no class, {found}"):
        packing.pack(splits["validation"], source.LABELS, "native", False, "val", tmp_path / "packed")


@pytest.mark.parametrize(
    "name", ["annotations/training/ADE_train_00000002.png", "images/validation/ADE_val_00000001.jpg"]
)
def test_a_file_that_ade20ks_archive_lacks_is_named(
    name: str, ade: Callable[..., Path], small: Small, tmp_path: Path
) -> None:
    ade(without=name)
    with pytest.raises(UserError, match=rf"ADEChallengeData2016\.zip lacks ADEChallengeData2016/{name}$"):
        built(ade20k, small(**ADE), tmp_path / "raw")


def test_another_archive_under_ade20ks_name_is_refused(
    ade: Callable[..., Path], small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = _ade20k.ARCHIVE
    ade()
    monkeypatch.setattr(_ade20k, "ARCHIVE", published)
    with pytest.raises(UserError, match="is not the published ADEChallengeData2016.zip: it has"):
        built(ade20k, small(**ADE), tmp_path / "raw")


def test_ade20k_has_no_other_splits(small: Small) -> None:
    with pytest.raises(UserError, match="ade20k151 has no split 'test'; choose from training, validation"):
        ade20k151.archives(small(**ADE | {"data.splits.val": "test", "data.dataset": "ade20k151"}).data)


def test_ade20k_has_the_benchmarks_classes_and_colours() -> None:
    assert len(set(ADE20K.names)) == 150
    assert len(set(ADE20K151.names)) == 151
    # objectInfo150.txt, rows 1, 45, 131 and 150; colours as the benchmark draws them.
    colours = {number: (ADE20K.names[number - 1], ADE20K.palette[number - 1]) for number in (1, 45, 131, 150)}
    assert colours == {
        1: ("wall", (120, 120, 120)),
        45: ("chest of drawers", (6, 51, 255)),
        131: ("screen", (0, 204, 255)),
        150: ("flag", (92, 0, 255)),
    }
    assert ADE20K151.names[131] == "screen"
    assert ADE20K151.palette[150] == (92, 0, 255)


# PASCAL-Context

# Of its 459 classes 2 aeroplane, 397 table, 284 person and 458 wood are among the 59; 431 unknown is not, 0 is none.
CONTEXT_RAW = [[2, 397, 0], [458, 431, 284]]
CONTEXT_MASK = [[0, 10, VOID], [58, VOID, 14]]


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes VOC 2010's archive and PASCAL-Context's, with two photographs to learn from and one to score on."""

    def write(raw: list[list[int]] = CONTEXT_RAW, without: str = "", broken: bool = False) -> None:
        splits = {"train": ["2008_000008", "2010_000005"], "val": ["2009_000001"]}
        voc, labels = {}, {"./labels.txt": b"1: accordion\n2: aeroplane\n"}
        for seed, name in enumerate([*splits["train"], *splits["val"]]):
            voc[f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg"] = photograph(seed)
            content = version5({"LabelMap": blocks(raw, np.uint16)})
            labels[f"trainval/{name}.mat"] = content[: 200 if broken else None]
        for split, names in splits.items():
            voc[f"VOCdevkit/VOC2010/ImageSets/Main/{split}.txt"] = "\n".join(names).encode()  # no last newline
        for files in (voc, labels):
            files.pop(without, None)
        monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
        for name, files in (("VOC2010", voc), ("CONTEXT", labels)):
            published = getattr(_context, name)
            archive_of(tmp_path / published.name, files)
            digest = hashlib.md5((tmp_path / published.name).read_bytes()).hexdigest()
            monkeypatch.setattr(_context, name, dataclasses.replace(published, md5=(digest,) if digest else ()))

    return write


def test_pascal_context_is_learned_and_scored_from_its_archives(
    context: Callable[..., None], small: Small, tmp_path: Path
) -> None:
    context()
    experiment = small(**{"data.dataset": "context59"})
    splits = built(context59, experiment, tmp_path / "raw")
    assert [s.name for s in splits["train"]] == ["2008_000008", "2010_000005"]
    assert [s.name for s in splits["val"]] == ["2009_000001"]
    for sample in (*splits["train"], *splits["val"]):
        assert (mask(sample, context59) == blocks(CONTEXT_MASK)).all()
    loss, counts = learn_and_score(pack(context59, splits, tmp_path / "packed"), experiment)
    assert loss == pytest.approx(math.log(59), rel=1e-5)  # all classes alike
    truth = counts.sum(1)
    assert {int(k): int(truth[k]) for k in truth.nonzero()[:, 0]} == {0: 256, 10: 256, 14: 256, 58: 256}


def test_with_60_classes_the_first_is_all_that_is_none_of_the_59(
    context: Callable[..., None], small: Small, tmp_path: Path
) -> None:
    """As pascalcontext_layers.py of the reference: zero where no label of the 59 is, and no void."""
    context()
    splits = built(context60, small(**{"data.dataset": "context60"}), tmp_path / "raw")
    expected = [[1, 11, 0], [59, 0, 15]]
    assert (mask(splits["val"][0], context60) == blocks(expected)).all()
    names = context60.LABELS.names
    assert [names[number] for row in expected for number in row] == [
        *("aeroplane", "table", "background"),
        *("wood", "background", "person"),
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"raw": [[2, 3, 4], [5, 460, 6]]}, r"2008_000008\.mat has class 460 at row 16, column 16; only 0\.\.459"),
        ({"without": "trainval/2010_000005.mat"}, r"trainval\.tar\.gz lacks trainval/2010_000005\.mat$"),
        ({"without": "VOCdevkit/VOC2010/JPEGImages/2009_000001.jpg"}, r"lacks .*/2009_000001\.jpg$"),
        ({"without": "VOCdevkit/VOC2010/ImageSets/Main/val.txt"}, r"03-May-2010\.tar lacks .*/Main/val\.txt$"),
        ({"broken": True}, r"2008_000008\.mat is not a MATLAB file with a mask LabelMap"),
    ],
)
def test_what_is_wrong_in_pascal_contexts_archives_is_said_in_one_line(
    changes: dict[str, Any], line: str, context: Callable[..., None], small: Small, tmp_path: Path
) -> None:
    context(**changes)
    with pytest.raises(UserError, match=line) as caught:
        built(context59, small(), tmp_path / "raw")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["VOC2010", "CONTEXT"])
def test_another_archive_under_the_name_of_pascal_contexts_is_refused(
    name: str, context: Callable[..., None], small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = getattr(_context, name)
    context()
    monkeypatch.setattr(_context, name, published)
    with pytest.raises(
        UserError,
        match=rf"is not the published {published.name}: its md5 is [0-9a-f]{{32}}, not {published.md5[0]}; delete",
    ):
        built(context59, small(), tmp_path / "raw")


def test_an_image_name_that_leads_elsewhere_is_refused() -> None:
    with pytest.raises(UserError, match="'../2008_000008' in a split list is not an image name"):
        sources.image_names(b"2008_000002\n../2008_000008")


def test_pascal_context_has_no_other_splits(small: Small) -> None:
    with pytest.raises(UserError, match="context59 has no split 'test'; choose from train, val"):
        context59.archives(small(**{"data.dataset": "context59", "data.splits.val": "test"}).data)


def test_pascal_contexts_first_twenty_classes_are_vocs() -> None:
    voc = sources.get("voc").LABELS
    assert CONTEXT59.palette[:20] == voc.palette[1:]
    assert [a for a, b in zip(CONTEXT59.names, voc.names[1:], strict=False) if a != b] == ["table"]  # VOC: diningtable


@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"the mirror folder {MIRROR} with the reference's lists is not here")
def test_pascal_contexts_classes_have_the_codes_of_its_makers_lists() -> None:
    def read(name: str) -> dict[str, int]:
        lines = (MIRROR / "lists" / name).read_text().splitlines()
        return {label.replace(" ", ""): int(number) for number, label in (line.split(": ") for line in lines)}

    every, chosen = read("context_classes-400.txt"), read("context_classes-59.txt")
    assert len(every) == 459
    renamed = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}  # one list's words for the other's
    names = [renamed.get(name, name) for name in list(chosen)[1:]]
    assert list(CONTEXT59_CODES.items()) == [(name, every[name]) for name in names]


def test_plan_says_who_allows_what(small: Small) -> None:
    lines = list(plan.describe(small(**{"data.dataset": "context59"})))
    assert any(line.endswith("; PASCAL-Context's labels: for research") for line in lines)
    assert sum("size not published, " in line for line in lines) == 2
