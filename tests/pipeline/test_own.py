"""A folder of the user's own images, with real DVC: from `fcn inspect` to scores, edits and queues."""

import json
import os
import re
import shutil
import signal
import subprocess
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
    """Ten JPEGs of 60×44 with colour masks; names with spaces and non-Latin letters; one file is a link."""
    folder = tmp_path / "Meine Bilder"
    for name in ("photos", "truth"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(10):
        name = f"straße {i} 道路"
        Image.fromarray(rng.integers(0, 256, (44, 60, 3), dtype=np.uint8)).save(folder / "photos" / f"{name}.jpg")
        Image.fromarray(COLOURS[rng.integers(0, 4, (44, 60))]).save(folder / "truth" / f"{name}.png")
    kept = folder / ".kept.png"
    linked = folder / "truth" / "straße 3 道路.png"
    linked.rename(kept)
    linked.symlink_to(kept)
    return folder


def stages(printed: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", printed)


def cached(checkout: Checkout, content: bytes) -> bool:
    return any(p.read_bytes() == content for p in (checkout.folder / ".dvc/cache/files/md5").rglob("*") if p.is_file())


def edit(mask: Path, colour: int) -> None:
    """Edits a file in place, as an editor may do, instead of replacing it by a new file."""
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
    # Only for the stages that read the folder; later stages read their outs.
    checkout.run("dvc", "exp", "run", "--queue", "resize", "-S", "data.folder.seed=1")
    # An experiment also includes edits that were made after the last repro.
    mask = checkout.folder / "data/own/mine/truth/straße 3 道路.png"
    Image.fromarray(np.full((44, 60, 3), COLOURS[1])).save(mask)
    checkout.run("dvc", "exp", "run", "--queue", "resize", "-S", "data.folder.seed=2")
    status = checkout.queue(2)
    assert status.count("Success") == 2, status
    adopted = [checkout.run("git", "show", f"{ref}:data/own/mine.dvc") for ref in checkout.experiments()]
    assert len(set(adopted)) == 2
    assert Image.open(mask).getpixel((0, 0)) == (200, 30, 30)


def test_adopting_leaves_nothing_when_dvc_refuses_and_says_why(checkout: Checkout, photographs: Path) -> None:
    shutil.rmtree(checkout.folder / ".dvc")
    printed = checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine", code=1)
    assert "error: `dvc add data/own/mine` failed (you are not inside of a DVC repository" in printed
    assert "Traceback" not in printed
    assert [p.name for p in (checkout.folder / "data/own").iterdir()] == ["none"]
    assert not (checkout.folder / "recipes/own-mine.yaml").exists()


@pytest.mark.parametrize(
    "name", ["con", "NUL", "none", "a\nb", "x" * 1000, "ä" * 40, "", ".a", "-a", "_a", "a/b", "a b"]
)
def test_a_name_that_is_none_is_refused_before_anything_is_copied(
    name: str, checkout: Checkout, photographs: Path
) -> None:
    printed = checkout.run("fcn", "inspect", str(photographs), f"--adopt={name}", code=1)
    assert printed.startswith("error: --adopt ")
    assert len(printed.splitlines()) == 1
    assert [p.name for p in (checkout.folder / "data/own").iterdir()] == ["none"]


@pytest.mark.parametrize("taken", ["data/own/mine/a.png", "data/own/mine.dvc", "recipes/own-mine.yaml"])
def test_a_taken_name_is_said_before_the_folder_is_read(taken: str, checkout: Checkout) -> None:
    path = checkout.folder / taken
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    printed = checkout.run("fcn", "inspect", "no such folder", "--adopt", "mine", code=1)
    named = taken.removesuffix("/a.png")
    assert printed.startswith(
        f"error: {named} exists; adopt under another name, or copy further images and masks into "
    )


# Kills itself with SIGKILL before the n-th change on the disk, or start of a program, during --adopt.
KILLED = """
import os, signal, sys
left = [int(sys.argv[1])]
def hook(event, args):
    changes = event in ("os.rename", "subprocess.Popen")
    changes |= event == "os.mkdir" and not os.path.exists(args[0])
    changes |= event in ("os.remove", "os.rmdir") and os.path.lexists(args[0])
    changes |= event == "open" and isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR))
    if changes and ("own" in str(args[0]) or event == "subprocess.Popen"):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from fcn.__main__ import main
sys.argv = ["fcn", "inspect", sys.argv[2], "--adopt", "mine"]
main()
print("events left", left[0])
"""


def test_an_adoption_that_was_killed_left_nothing_or_all_and_the_same_command_completes_it(
    checkout: Checkout, tmp_path: Path
) -> None:
    folder = tmp_path / "two"
    for i in range(2):
        for name, mode in (("images", "RGB"), ("masks", "L")):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.new(mode, (8, 8), i).save(folder / name / f"{i}.png")
    at = checkout.folder
    whole = [at / "data/own/mine.dvc", at / "data/own/mine", at / "recipes/own-mine.yaml"]

    def run(moment: int) -> subprocess.CompletedProcess[str]:
        words = ["python", "-c", KILLED, str(moment), str(folder)]
        return subprocess.run(words, cwd=at, env=checkout.forking(), capture_output=True, text=True, check=False)

    def clear() -> None:
        checkout.run("git", "reset", "--quiet", "--hard")
        checkout.run("git", "clean", "-fdq", "data", "recipes")
        shutil.rmtree(at / "data/own/mine", ignore_errors=True)

    def content() -> dict[str, bytes]:
        files = [path for path in (*whole[1].rglob("*"), whole[0], whole[2]) if path.is_file()]
        return {path.relative_to(at).as_posix(): path.read_bytes() for path in files}

    undisturbed = run(1_000_000)
    assert undisturbed.returncode == 0, undisturbed.stderr
    events = 1_000_000 - int(undisturbed.stdout.split()[-1])
    assert "up to date" in checkout.run("dvc", "status", "data/own/mine.dvc")
    adopted = content()
    clear()
    seen = set()
    for moment in sorted({1, 3, events // 2, *range(events - 10, events + 1)}):
        assert run(moment).returncode == -signal.SIGKILL
        visible = [path.exists() for path in whole]
        assert visible == sorted(visible, reverse=True)  # a folder never exists without its .dvc file
        seen.add(sum(visible))
        again = subprocess.run(
            ["fcn", "inspect", str(folder), "--adopt", "mine"],
            cwd=at,
            env=checkout.forking(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 0 or f"{whole[1].relative_to(at)} exists" in again.stderr, again.stderr
        assert sorted(p.name for p in (at / "data/own").iterdir()) == [".gitignore", "mine", "mine.dvc", "none"]
        staged = checkout.run("git", "diff", "--cached", "--name-only").split()
        assert {"data/own/.gitignore", "data/own/mine.dvc", "recipes/own-mine.yaml"} <= set(staged)
        assert content() == adopted
        clear()
    assert {0, 3} <= seen


def test_the_first_adoption_leaves_no_scores_of_other_data_in_the_next_commit(
    checkout: Checkout, photographs: Path
) -> None:
    (checkout.folder / "metrics").mkdir()
    (checkout.folder / "metrics/scores.json").write_text('{"fcn8s": {"mean_iu": 0.717}}')
    checkout.commit()
    printed = checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine")
    assert "emptied metrics/scores.json, which held the scores of other data; they stay in git" in printed
    checkout.run("fcn", "recipe", "own-mine", "--force")
    checkout.commit()
    assert "0.717" not in checkout.run("dvc", "exp", "show", "--csv")
    # From here on, the scores are those of the user's own folder.
    (checkout.folder / "metrics/scores.json").write_text('{"fcn8s": {"mean_iu": 0.5}}')
    checkout.commit()
    assert "emptied" not in checkout.run("fcn", "inspect", str(photographs), "--adopt", "second")
    assert "0.5" in checkout.read("metrics/scores.json")


def test_scores_that_no_commit_has_are_not_emptied(checkout: Checkout, photographs: Path) -> None:
    (checkout.folder / "metrics").mkdir()
    (checkout.folder / "metrics/scores.json").write_text('{"fcn8s": {"mean_iu": 0.717}}')
    assert "emptied" not in checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine")
    assert "0.717" in checkout.read("metrics/scores.json")


def test_a_deleted_mask_is_warned_of_and_comes_back_as_the_warning_says(checkout: Checkout, photographs: Path) -> None:
    checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine")
    checkout.run("fcn", "recipe", "own-mine", "--force")
    assert "next: fcn recipe own-mine && dvc repro" in checkout.run("fcn", "inspect", "data/own/mine")
    assert "warning" not in checkout.run("dvc", "repro", "download")
    mask = checkout.folder / "data/own/mine/truth/straße 4 道路.png"
    before = mask.read_bytes()
    mask.unlink()
    assert "warning: data/own/mine has lost 1 file" in checkout.run("fcn", "check")
    printed = checkout.run("dvc", "repro", "download")
    assert "warning: data/own/mine has lost 1 file, such as truth/straße 4 道路.png" in printed
    advice = re.search("to restore: (.+); if this was intended", printed)
    assert advice
    checkout.run("sh", "-c", advice[1])
    assert mask.read_bytes() == before
    mask.unlink()
    checkout.run("dvc", "repro", "download")
    checkout.run("git", "add", "data/own/mine.dvc")
    checkout.set(**{"data.folder.seed": 1})
    assert "warning" not in checkout.run("dvc", "repro", "download")


def test_a_file_that_was_trained_on_but_never_committed_is_warned_of_too(checkout: Checkout, photographs: Path) -> None:
    checkout.run("fcn", "inspect", str(photographs), "--adopt", "mine")
    checkout.run("fcn", "recipe", "own-mine", "--force")
    mask, more = (checkout.folder / f"data/own/mine/{name}" for name in ("truth/straße 4 道路.png", "notes.txt"))
    more.write_text("taken in May")
    checkout.run("dvc", "repro", "download")  # rewrites data/own/mine.dvc, which git has without the notes
    assert "warning" not in checkout.run("fcn", "check")
    more.unlink()
    printed = checkout.run("fcn", "check")
    assert "warning: data/own/mine has lost 1 file, such as notes.txt; to restore: dvc checkout " in printed
    checkout.run("dvc", "checkout", "data/own/mine.dvc")
    assert more.is_file()
    checkout.run("git", "rm", "-q", "--cached", "--force", "data/own/mine.dvc")
    assert "warning: git does not have data/own/mine.dvc" in checkout.run("fcn", "check")
    assert mask.is_file()


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
