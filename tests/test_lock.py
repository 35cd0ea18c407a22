"""requirements.lock: the same packages everywhere, none of them with a known hole."""

import re
import tomllib

import pytest
from conftest import ROOT
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

LOCK = (ROOT / "requirements.lock").read_text()
# A package, and below it its hashes: each entry begins at the left border.
ENTRIES = [entry.replace("\\\n", " ").split() for entry in re.split(r"\n(?=\S)", LOCK.strip())]


def entries(name: str) -> list[str]:
    return [words[0] for words in ENTRIES if words[0].startswith(f"{name}==")]


def test_every_package_is_pinned_and_has_hashes() -> None:
    assert len(ENTRIES) > 100
    for words in ENTRIES:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[^\s;]+", words[0]), words[0]
        hashes = [word for word in words if word.startswith("--hash=")]
        assert hashes, words[0]
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for word in hashes), words[0]
        marker = " ".join(word for word in words[1:] if word not in hashes)
        if marker:
            Marker(marker.removeprefix("; "))


def test_the_lock_names_no_host() -> None:
    assert "://" not in LOCK
    assert not re.search(r"(?m)^\s*(-i|--index|--extra-index|--find-links|-f|--trusted-host)", LOCK)
    assert " @ " not in LOCK


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
