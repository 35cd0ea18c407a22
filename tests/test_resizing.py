"""From a data set's files to the packed split, and what is said about files that are not right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn import resizing
from fcn.data import Split
from fcn.errors import UserError
from fcn.labels import VOID, Labels
from fcn.sources import Sample

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
    out.mkdir(exist_ok=True)
    resizing.pack(samples, LABELS, size, native, "train", out)
    resizing.write_labels(LABELS, out)
    return Split(out, "train")


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


def test_a_mask_gets_no_class_between_two_classes(sample: Callable[..., Sample], tmp_path: Path) -> None:
    split = pack([sample()], tmp_path / "out", size="17x9")
    assert split.image(0).shape == (9, 17, 3)
    assert set(np.unique(split.mask(0))) <= {0, 1, VOID}


@pytest.mark.parametrize(("wanted", "size"), [(10, (20, 10)), ("native", (40, 20)), ("7x30", (7, 30))])
def test_the_size_is_native_the_shorter_side_or_exact(wanted: int | str, size: tuple[int, int]) -> None:
    assert resizing.target_size((40, 20), wanted) == size


def test_native_masks_keep_their_size_while_images_are_resized(sample: Callable[..., Sample], tmp_path: Path) -> None:
    split = pack([sample()], tmp_path / "out", size="20x10", native=True)
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
    Image.fromarray(mask).save(wrong.mask)
    expected = f"{wrong.mask} has class 37 at row 12, column 37; only 0..1 and 11 (void) are known"
    assert refusal([wrong], tmp_path / "out") == expected


def test_a_truncated_image_is_named(sample: Callable[..., Sample], tmp_path: Path) -> None:
    cut = sample()
    cut.image.write_bytes(cut.image.read_bytes()[:60])
    assert refusal([cut], tmp_path / "out").startswith(f"{cut.image} is no whole picture (")


def test_a_mask_in_colours_is_refused(sample: Callable[..., Sample], tmp_path: Path) -> None:
    coloured = sample()
    assert "mode RGB" in refusal([Sample("a", coloured.image, coloured.image)], tmp_path / "out")


def test_many_findings_are_listed_at_once(sample: Callable[..., Sample], tmp_path: Path) -> None:
    samples = [sample(f"s{i:02d}") for i in range(25)]
    for lonely in samples:
        lonely.mask.unlink()
    lines = refusal(samples, tmp_path / "out").splitlines()
    assert len(lines) == resizing.SHOWN + 1
    assert lines[-1].strip() == "and 5 more"


def test_an_image_in_both_splits_is_refused_whatever_its_name(sample: Callable[..., Sample], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    train = resizing.pack([sample("a"), sample("b", shade=7)], LABELS, "native", False, "train", out)
    val = resizing.pack([sample("c", shade=7)], LABELS, "native", False, "val", out)
    with pytest.raises(UserError, match=r"1 images are in both splits: b \(train\) is c \(val\)"):
        resizing.refuse_shared(train, val)


def test_a_packed_file_that_is_shorter_than_its_index_says_is_refused(
    sample: Callable[..., Sample], tmp_path: Path
) -> None:
    pack([sample()], tmp_path / "out")
    path = tmp_path / "out" / "train.images"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="has 2399 bytes, its index says 2400; run `dvc repro resize`"):
        Split(tmp_path / "out", "train")
