"""Archives that want to do harm, or are merely broken."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from fcn import extraction
from fcn.errors import UserError


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def file(name: str, content: bytes = b"abc") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info, b""


def refusal(path: Path, name: str = "a") -> str:
    with pytest.raises(UserError) as caught, extraction.opened(path) as contents:
        contents.read(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_wanted_files_of_a_tar_are_written_where_the_caller_says(mode: str, tmp_path: Path) -> None:
    path = tar(tmp_path / "x", file("a", b"1"), file("b/c", b"2"), file("d", b"3"), mode=mode)
    with extraction.opened(path) as contents:
        extraction.write(contents, {"a": tmp_path / "out/one", "b/c": tmp_path / "out/two"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {"one": b"1", "two": b"2"}


def test_a_tar_of_the_folder_itself_holds_its_files_by_their_names(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", link(".", "", tarfile.DIRTYPE), file("./b/c", b"2"))
    with extraction.opened(path) as contents:
        assert contents.read("b/c") == b"2"


def test_what_nobody_asked_for_is_never_written(tmp_path: Path) -> None:
    evil = (file("../../evil"), file("/tmp/evil"), link("evil", "/etc/passwd"), file("C:\\evil"))
    path = tar(tmp_path / "x.tar", *evil, file("a"))
    (tmp_path / "in").mkdir()
    with extraction.opened(path) as contents:
        extraction.write(contents, {"a": tmp_path / "in/a"})
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "in", "x.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_wanted_name_that_is_no_regular_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    assert "a is a link or a device" in refusal(tar(tmp_path / "x.tar", link("a", "/etc/passwd", kind)))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "a is a link or a device" in refusal(tmp_path / "x.zip")


def test_a_wanted_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", file("a", b"1"), file("a", b"2"))
    with pytest.raises(UserError, match="holds a twice"), extraction.opened(path) as contents:
        extraction.write(contents, {"a": tmp_path / "a"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tar(tmp_path / "x.tar", file("b"))).endswith("x.tar lacks a")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_bomb_is_given_up_after_its_first_bytes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "MOST", 1 << 20)
    path = tmp_path / "x"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a", bytes(8 << 20))
    else:
        tar(path, file("a", bytes(8 << 20)), mode="w:gz")
    assert path.stat().st_size < 1 << 16
    assert "a has more than 1 MiB" in refusal(path)


def test_places_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", file("a"), file("A"))
    with pytest.raises(UserError, match="the same name"), extraction.opened(path) as contents:
        extraction.write(contents, {"a": tmp_path / "a", "A": tmp_path / "A"})


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b broken", b"PK\x03\x04" + bytes(30), b"\xfd7zXZ\0 no"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert "is no whole archive" in refusal(tmp_path / "x") or "lacks a" in refusal(tmp_path / "x")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_truncated_archive_is_refused(mode: str, tmp_path: Path) -> None:
    path = tar(tmp_path / "x", file("b", bytes(range(256)) * 4000), file("a", bytes(range(256)) * 4000), mode=mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = refusal(path)
    assert "is no whole archive" in message or "lacks a" in message
