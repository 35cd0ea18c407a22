"""requirements.lock and tools/: the same packages everywhere, none of them with a known hole."""

import re
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

LOCKS = [ROOT / "requirements.lock", *sorted((ROOT / "tools").glob("*.txt"))]


def parts(lock: Path) -> list[list[str]]:
    """The words of each entry: a package, and below it its hashes; each begins at the left border."""
    return [entry.replace("\\\n", " ").split() for entry in re.split(r"\n(?=\S)", lock.read_text().strip())]


def entries(name: str) -> list[str]:
    return [words[0] for words in parts(LOCKS[0]) if words[0].startswith(f"{name}==")]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_is_pinned_and_has_hashes(lock: Path) -> None:
    assert len(parts(lock)) > (100 if lock == LOCKS[0] else 0)
    for words in parts(lock):
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[^\s;]+", words[0]), words[0]
        hashes = [word for word in words if word.startswith("--hash=")]
        assert hashes, words[0]
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for word in hashes), words[0]
        marker = " ".join(word for word in words[1:] if word not in hashes)
        if marker:
            Marker(marker.removeprefix("; "))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"(?m)^\s*(-i|--index|--extra-index|--find-links|-f|--trusted-host)", text)
    assert " @ " not in text


def test_each_tool_is_locked_at_the_version_that_was_asked_for() -> None:
    asked = {path.stem: path.read_text().strip() for path in (ROOT / "tools").glob("*.in")}
    assert asked.keys() == {lock.stem for lock in LOCKS[1:]}
    for name, entry in asked.items():
        assert [words[0] for words in parts(ROOT / "tools" / f"{name}.txt") if words[0] == entry] == [entry]


def test_nothing_is_installed_without_hashes_and_no_action_is_run_by_its_tag() -> None:
    recipes = (ROOT / "Makefile").read_text().replace("\\\n", " ").splitlines()
    installs = [line for line in recipes if re.search(r"pip (install|sync)|tool run|uvx", line)]
    assert len(installs) == 4
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation --editable ." in line for line in installs)
    for workflow in (ROOT / ".github" / "workflows").iterdir():
        uses = re.findall(r"uses: (.*)", workflow.read_text())
        assert uses
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use) for use in uses), uses


def test_every_dependency_of_pyproject_is_in_the_lock_at_a_version_that_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        wanted = Requirement(text)
        found = entries(wanted.name)
        assert found, f"{wanted.name} is not locked"
        assert all(wanted.specifier.contains(entry.partition("==")[2]) for entry in found), (text, found)


@pytest.mark.parametrize(
    ("name", "least", "reason"),
    [
        ("torch", "2.10", "torch.load(weights_only=True) could be made to run code (CVE-2026-24747)"),
        ("pillow", "12.2", "memory errors that a file can cause (CVE-2026-42308 and others before it)"),
    ],
)
def test_readers_of_others_files_are_new_enough(name: str, least: str, reason: str) -> None:
    found = entries(name)
    assert found
    assert all(Version(entry.partition("==")[2]) >= Version(least) for entry in found), reason
