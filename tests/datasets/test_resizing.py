"""From a data set's files to the packed split, and what is said about files that are not right."""

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from makers import packed_split, png
from PIL import Image

from fcn.data import scale
from fcn.data.labels import VOID, Labels
from fcn.data.split import COLUMNS, Split
from fcn.datasets import packing, resizing, sources
from fcn.datasets.sources import Sample
from fcn.io import images
from fcn.params import Size
from fcn.runtime import files
from fcn.runtime.errors import UserError

LABELS = Labels(("sky", "road"), ((1, 2, 3), (4, 5, 6)), void=(11,))


@pytest.fixture
def sample(tmp_path: Path) -> Callable[..., Sample]:
    """Writes an image and a mask of 40×20 (width × height): road on the lower half, one void pixel."""

    def write(name: str = "a", size: tuple[int, int] = (40, 20), shade: int = 100) -> Sample:
        width, height = size
        image = np.full((height, width, 3), shade, np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[height // 2 :] = 1
        mask[0, 0] = 11
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")
        return Sample(name, tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png")

    return write


def pack(samples: list[Sample], out: Path, size: int | str = "native", native: bool = False) -> Split:
    return packed_split(samples, LABELS, out, "train", size, native)


def refusal(samples: list[Sample], out: Path) -> str:
    with pytest.raises(UserError) as caught:
        pack(samples, out)
    return str(caught.value)


def test_a_packed_split_gives_back_images_masks_and_counts(sample: Callable[..., Sample], tmp_path: Path) -> None:
    split = pack([sample("a"), sample("b", (6, 8), 200)], tmp_path / "out")
    assert len(split) == 2
    assert split.name(1) == "b"
    assert split.image(1).shape == (8, 6, 3)
    assert (split.image(1) == 200).all()
    assert split.mask(0)[0, 0] == VOID
    assert split.mask(0)[19, 39] == 1
    assert split.pixels().tolist() == [[399, 400], [23, 24]]
    assert split.labels.names == LABELS.names
    assert split.labels.palette == LABELS.palette


def test_classes_may_be_called_like_the_columns_of_the_index(sample: Callable[..., Sample], tmp_path: Path) -> None:
    names = (*COLUMNS, "pixels:void", "id.1", "=1+1", 'a "b", c')
    labels = Labels(names, ((0, 0, 0),) * len(names), void=(11, 255))
    split = packed_split([sample()], labels, tmp_path)
    assert split.labels.names == names
    assert split.name(0) == "a"
    assert split.pixels().tolist() == [[399, 400] + [0] * (len(names) - 2)]
    assert split.index["void"].tolist() == [1]


def test_a_split_says_how_much_of_it_is_void_and_which_classes_it_lacks(
    sample: Callable[..., Sample], tmp_path: Path
) -> None:
    split = pack([sample()], tmp_path / "out")
    assert (split.absent(), split.void()) == ([], 1 / 800)
    lonely = sample("b")
    Image.fromarray(np.zeros((20, 40), np.uint8)).save(lonely.mask)
    split = pack([lonely], tmp_path / "out")
    assert (split.absent(), split.void()) == (["road"], 0)


def test_a_name_too_long_for_the_files_that_are_called_after_it_is_refused_in_bytes(
    sample: Callable[..., Sample], tmp_path: Path
) -> None:
    first = sample()
    for name, length in (("x" * 201, 201), ("道" * 67, 201)):
        said = refusal([Sample(name, first.image, first.mask)], tmp_path / "out")
        assert said == (
            f"the name {name[:40]}… has {length} bytes with its folders; use at most 200: predictions are named so"
        )
    assert len(pack([Sample("道" * 66 + "xy", first.image, first.mask)], tmp_path / "out")) == 1


def test_the_longest_name_that_is_allowed_has_room_for_all_that_is_added_to_it(tmp_path: Path) -> None:
    name = f"{'x' * sources.MAX_NAME}_y999999999_x999999999.prediction.png"
    with files.replacing(tmp_path / name) as temporary:
        temporary.write_bytes(b"")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_mask_gets_no_class_between_two_classes(sample: Callable[..., Sample], tmp_path: Path) -> None:
    split = pack([sample()], tmp_path / "out", size=Size(17, 9))
    assert split.image(0).shape == (9, 17, 3)
    assert set(np.unique(split.mask(0))) <= {0, 1, VOID}


@pytest.mark.parametrize(("wanted", "size"), [(10, (20, 10)), ("native", (40, 20)), (Size(7, 30), (7, 30))])
def test_the_size_is_native_the_shorter_side_or_exact(wanted: int | str, size: tuple[int, int]) -> None:
    assert scale.target_size((40, 20), wanted) == size


def test_native_masks_keep_their_size_while_images_are_resized(sample: Callable[..., Sample], tmp_path: Path) -> None:
    split = pack([sample()], tmp_path / "out", size=Size(20, 10), native=True)
    assert split.image(0).shape == (10, 20, 3)
    assert split.mask(0).shape == (20, 40)


def test_a_missing_mask_is_named(sample: Callable[..., Sample], tmp_path: Path) -> None:
    lonely = sample()
    lonely.mask.unlink()
    assert refusal([lonely], tmp_path / "out") == f"{lonely.mask} is missing"


def test_a_mask_of_another_size_is_named_with_both_sizes(sample: Callable[..., Sample], tmp_path: Path) -> None:
    image, other = sample("a"), sample("b", (38, 20))
    mixed = Sample("a", image.image, other.mask)
    assert refusal([mixed], tmp_path / "out") == f"{other.mask} is 38x20, its image {image.image} is 40x20"


def test_a_class_out_of_range_is_named_with_file_and_pixel(sample: Callable[..., Sample], tmp_path: Path) -> None:
    wrong = sample()
    mask = np.array(Image.open(wrong.mask))
    mask[12, 40 - 3] = 37
    known = "classes have 0..1, void 11"
    Image.fromarray(mask).save(wrong.mask)
    expected = f"{wrong.mask} has codes that are no class, first at row 12, column 37: 37 (1 pixel); {known}"
    assert refusal([wrong], tmp_path / "out") == expected


def test_a_truncated_image_is_named(sample: Callable[..., Sample], tmp_path: Path) -> None:
    cut = sample()
    cut.image.write_bytes(cut.image.read_bytes()[:60])
    assert refusal([cut], tmp_path / "out").startswith(f"{cut.image} cannot be decoded (")


def test_a_mask_in_colours_is_refused(sample: Callable[..., Sample], tmp_path: Path) -> None:
    coloured = sample()
    assert "mode RGB" in refusal([Sample("a", coloured.image, coloured.image)], tmp_path / "out")


def test_many_findings_are_listed_at_once(sample: Callable[..., Sample], tmp_path: Path) -> None:
    samples = [sample(f"s{i:02d}") for i in range(25)]
    for lonely in samples:
        lonely.mask.unlink()
    lines = refusal(samples, tmp_path / "out").splitlines()
    assert len(lines) == packing.MAX_LISTED + 1
    assert lines[-1].strip() == "and 5 more"


def test_an_image_in_both_splits_is_refused_whatever_its_name(sample: Callable[..., Sample], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    train = packing.pack([sample("a"), sample("b", shade=7)], LABELS, "native", False, "train", out)
    val = packing.pack([sample("c", shade=7)], LABELS, "native", False, "val", out)
    with pytest.raises(UserError, match=r"1 image is in both splits, .*: b \(train\) is c \(val\)"):
        packing.refuse_shared(train, val)


def test_pictures_that_differ_in_one_pixel_or_in_their_shape_have_other_fingerprints() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    found = {images.fingerprint(pixels), images.fingerprint(pixels.reshape(24, 16, 3))}
    for row, column in ((0, 0), (3, 7), (8, 23), (15, 23)):
        other = pixels.copy()
        other[row, column, 1] ^= 1
        found.add(images.fingerprint(other))
    assert len(found) == 6


def test_a_packed_file_that_is_shorter_than_its_index_says_is_refused(
    sample: Callable[..., Sample], tmp_path: Path
) -> None:
    pack([sample()], tmp_path / "out")
    path = tmp_path / "out" / "train.images"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="has 2399 bytes, its index says 2400; run `dvc repro resize`"):
        Split(tmp_path / "out", "train")


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, Path]:
    """Pictures that claim, leave out or hide something; each under its name."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)).save(tmp_path / "x.jpg")
    jpeg = (tmp_path / "x.jpg").read_bytes()
    frame = jpeg.index(b"\xff\xc0") + 5  # height and width in the frame's header
    nothing = (b"IDAT", zlib.compress(bytes(1000)))
    black = (b"IDAT", zlib.compress(bytes(14_000 * (3 * 14_000 + 1)), 1))  # whole, and small only as a file
    text = (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26)))
    contents = {
        "vast.png": png(100_000, 100_000, nothing),
        "vast.jpg": jpeg[:frame] + struct.pack(">2H", 65_500, 65_500) + jpeg[frame + 4 :],
        "large.png": png(14_000, 14_000, black),
        "text.png": png(8, 8, text, (b"IDAT", zlib.compress(bytes(25 * 8)))),
        "short.png": png(60, 60, nothing),
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "page.jpg": b"<html>not found</html>",
        "empty.png": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    return {name: tmp_path / name for name in (*contents, "pipe.png", "folder.png")}


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux says how much memory a process had")
def test_hostile_pictures_get_one_line_each_in_little_memory(hostile: dict[str, Path]) -> None:
    program = (
        "import re, sys; from pathlib import Path; from fcn.datasets import resizing\n"
        "from fcn.datasets.label_maps import VOC\n"
        "from fcn.datasets.sources import Sample\n"
        # Not getrusage: that counts what the process was before it became this program.
        "most = lambda: int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1]) >> 10\n"
        "before = most()\n"
        "for path in map(Path, sys.argv[1:]): print(resizing.resize(Sample('a', path, path), VOC, 'native', False))\n"
        "print(most() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, hostile.values())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    *lines, mebibytes = done.stdout.splitlines()
    assert int(mebibytes) < 64
    for (name, path), line in zip(hostile.items(), lines, strict=True):
        reasons = {
            **dict.fromkeys(("large.png", "vast.png", "vast.jpg"), "has more than 178 million pixels"),
            "pipe.png": "is not a regular file",
            "folder.png": "is not a regular file",
        }
        assert line.startswith(f"{path} {reasons.get(name, 'cannot be decoded (')}")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_no_damage_to_a_picture_is_more_than_a_finding(
    sample: Callable[..., Sample], tmp_path: Path, suffix: str
) -> None:
    intact = sample()
    path = tmp_path / f"damaged.{suffix}"
    Image.open(intact.image).save(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        packed = resizing.resize(Sample("a", path, intact.mask), LABELS, "native", False)
        assert isinstance(packed, resizing.Packed) or ("\n" not in packed and str(tmp_path) in packed)


def test_a_name_that_stands_twice_in_a_list_is_refused(sample: Callable[..., Sample], tmp_path: Path) -> None:
    """Predictions are kept under it."""
    assert refusal([sample("a"), sample("b"), sample("a")], tmp_path / "out") == "a is listed 2 times in train"


def test_a_smaller_image_is_the_mean_of_what_it_covers() -> None:
    """Antialiased: at half the size a pixel is a tent over four, 1 3 3 1; at the border over three, 3 3 1."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:4, 2:4] = 160
    weight = np.array([1 / 7, 6 / 8, 1 / 8])  # of rows 2 and 3 together, in rows 0, 1 and 2 of the result
    expected = 160 * np.outer(weight, weight)
    assert np.abs(scale.shrink(pixels, 4, 4)[:3, :3, 0] - expected).max() <= 1


@pytest.mark.parametrize("size", [1000, Size(99999999, 1), Size(20000, 20000)])
def test_an_image_that_would_grow_beyond_all_bounds_is_named(sample: Callable[..., Sample], size: int | str) -> None:
    said = resizing.resize(sample("line", (2000, 1)), LABELS, size, False)
    assert isinstance(said, str)
    assert said.startswith("line is 2000x1 and would be resized to ")


def test_resizing_differs_from_pillows_by_one_grey_level_at_most() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (75, 100, 3)).astype(np.uint8)
    for width, height in ((50, 50), (64, 48), (99, 74), (7, 5), (150, 110)):
        theirs = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
        ours = scale.shrink(pixels, width, height)
        assert ours.shape == theirs.shape
        assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.slow
def test_resizing_gives_the_same_bits_with_any_vector_instructions() -> None:
    program = (
        "import hashlib, numpy as np; from fcn.data import scale; rng = np.random.default_rng(0)\n"
        "digest = hashlib.sha256()\n"
        "for size in ((64, 48), (33, 99), (150, 7)):\n"
        "    digest.update(scale.shrink(rng.integers(0, 256, (75, 100, 3)).astype(np.uint8), *size))\n"
        "print(digest.hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"ATEN_CPU_CAPABILITY": capability},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for capability in ("default", "avx2", "avx512")
    }
    assert len(digests) == 1
