"""One's own pictures as a person brings them: real DVC from `fcn inspect` to scores, edits and queues."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Checkout
from PIL import Image

pytestmark = pytest.mark.slow
COLOURS = np.array([(0, 0, 0), (200, 30, 30), (30, 30, 200), (224, 224, 192)], np.uint8)
SMALL = {
    "batch_size": 2,
    "train.iterations": 3,
    "train.validate_every": 3,
    "finetune.fcn16s.iterations": 2,
    "finetune.fcn8s.iterations": 2,
}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Ten JPEGs of 60×44 with masks in colours; names with blanks and letters of other alphabets; one is a link."""
    folder = tmp_path / "Meine Bilder"
    for name in ("photos", "truth"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(10):
        name = f"straße {i} 道路"
        Image.fromarray(rng.integers(0, 256, (44, 60, 3), dtype=np.uint8)).save(folder / "photos" / f"{name}.jpg")
        Image.fromarray(COLOURS[rng.integers(0, 4, (44, 60))]).save(folder / "truth" / f"{name}.png")
    elsewhere = tmp_path / "elsewhere.png"
    linked = folder / "truth" / "straße 3 道路.png"
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    return folder


def stages(printed: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", printed)


def cached(checkout: Checkout, content: bytes) -> bool:
    return any(p.read_bytes() == content for p in (checkout.folder / ".dvc/cache/files/md5").rglob("*") if p.is_file())


def edit(mask: Path, colour: int) -> None:
    """In place, as an editor may do it, and not by a new file that takes the old one's name."""
    assert not mask.is_symlink()
    assert os.access(mask, os.W_OK)
    with mask.open("r+b") as file:
        Image.fromarray(np.full((44, 60, 3), COLOURS[colour])).save(file, "png")
        file.truncate()


def test_three_commands_lead_from_photographs_to_scores_and_an_edit_runs_what_follows(
    checkout: Checkout, photographs: Path
) -> None:
    printed = checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine")
    assert "next: fcn recipe own-mine && dvc repro" in printed
    checkout.run("fcn", "recipe", "own-mine", "--force")
    checkout.set(**SMALL)
    assert stages(checkout.run("dvc", "repro"))[:2] == ["download", "resize"]
    scores = json.loads(checkout.read("metrics/scores.json"))
    assert set(scores) == {"fcn32s", "fcn16s", "fcn8s"}
    assert "class_2," in checkout.read("metrics/classes.csv")
    assert len(list((checkout.folder / "data/predictions/fcn8s").glob("straße * 道路.png"))) == 2
    assert stages(checkout.run("dvc", "repro")) == []
    (mask,) = (checkout.folder / "data/raw").glob("truth/straße 3 道路.png")
    edit(checkout.folder / "data/own/mine/truth" / mask.name, 1)
    assert stages(checkout.run("dvc", "repro")) == [
        *("download", "resize", "train", "finetune16s", "finetune8s", "evaluate", "report")
    ]


@pytest.mark.parametrize("links", ["hardlink", "symlink"])
def test_a_mask_can_be_edited_in_place_again_and_again_and_the_cache_stays_whole(
    checkout: Checkout, photographs: Path, links: str
) -> None:
    checkout.run("dvc", "config", "cache.type", links)
    checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine")
    checkout.run("fcn", "recipe", "own-mine", "--force")
    mask = checkout.folder / "data/own/mine/truth/straße 3 道路.png"
    checkout.run("dvc", "repro", "resize")
    for colour, target, follow in ((1, "download", []), (2, "resize", ["resize"])):
        before = mask.read_bytes()
        edit(mask, colour)
        assert stages(checkout.run("dvc", "repro", target)) == ["download", *follow]
        assert cached(checkout, before)
        assert cached(checkout, mask.read_bytes())


def test_queued_experiments_find_an_adopted_folder_committed_or_not(checkout: Checkout, photographs: Path) -> None:
    checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine")
    checkout.run("fcn", "recipe", "own-mine", "--force")
    # To where the folder is read; later stages read what these two make of it.
    checkout.run("dvc", "exp", "run", "--queue", "resize", "-S", "data.folder.seed=1")
    # An edit that no repro has seen yet belongs to the experiment too.
    mask = checkout.folder / "data/own/mine/truth/straße 3 道路.png"
    Image.fromarray(np.full((44, 60, 3), COLOURS[1])).save(mask)
    checkout.run("dvc", "exp", "run", "--queue", "resize", "-S", "data.folder.seed=2")
    status = checkout.queue(2)
    assert status.count("Success") == 2, status
    adopted = [checkout.run("git", "show", f"{ref}:data/own/mine.dvc") for ref in checkout.experiments()]
    assert len(set(adopted)) == 2
    assert Image.open(mask).getpixel((0, 0)) == (200, 30, 30)


def test_adopting_leaves_nothing_when_dvc_refuses(checkout: Checkout, photographs: Path) -> None:
    shutil.rmtree(checkout.folder / ".dvc")
    printed = checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine", code=1)
    assert "error: `dvc add data/own/mine` failed" in printed
    assert "Traceback" not in printed
    assert [p.name for p in (checkout.folder / "data/own").iterdir()] == ["none"]
    assert not (checkout.folder / "recipes/own-mine.yaml").exists()


def test_a_recipe_whose_folder_is_missing_is_one_line(checkout: Checkout) -> None:
    checkout.run("fcn", "recipe", "satellite", "--force")
    expected = "error: data/own/satellite is missing; "
    assert expected in checkout.run("fcn", "check", code=1)
    assert "Traceback" not in checkout.run("dvc", "repro", code=1)


def test_renaming_a_class_copies_nothing_again_and_another_split_does(checkout: Checkout, photographs: Path) -> None:
    checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine")
    checkout.run("fcn", "recipe", "own-mine", "--force")
    checkout.run("dvc", "repro", "resize")
    text = checkout.read("params.yaml")
    (checkout.folder / "params.yaml").write_text(text.replace("class_1:", "road:"))
    assert stages(checkout.run("dvc", "repro", "resize")) == ["resize"]
    checkout.set(**{"data.folder.seed": 1})
    assert stages(checkout.run("dvc", "repro", "resize")) == ["download", "resize"]
