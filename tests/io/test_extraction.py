"""Archives that want to do harm, or are merely broken."""

import gzip
import io
import os
import random
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from makers import archive_refusal

from fcn.io import extraction
from fcn.runtime.errors import UserError


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
    assert "a is a link or a device" in archive_refusal(tar(tmp_path / "x.tar", link("a", "/etc/passwd", kind)))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "a is a link or a device" in archive_refusal(tmp_path / "x.zip")


def test_a_wanted_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", file("a", b"1"), file("a", b"2"))
    with pytest.raises(UserError, match="holds a twice"), extraction.opened(path) as contents:
        extraction.write(contents, {"a": tmp_path / "a"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert archive_refusal(tar(tmp_path / "x.tar", file("b"))).endswith("x.tar lacks a")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_bomb_is_given_up_after_its_first_bytes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "MAX_FILE_SIZE", 1 << 20)
    path = tmp_path / "x"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a", bytes(8 << 20))
    else:
        tar(path, file("a", bytes(8 << 20)), mode="w:gz")
    assert path.stat().st_size < 1 << 16
    assert ("a has more than 1 MiB" if kind == "zip" else "a ends beyond 1 MiB") in archive_refusal(path)


def test_places_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", file("a"), file("A"))
    with pytest.raises(UserError, match="the same name"), extraction.opened(path) as contents:
        extraction.write(contents, {"a": tmp_path / "a", "A": tmp_path / "A"})


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b broken", b"PK\x03\x04" + bytes(30), b"\xfd7zXZ\0 no"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert "is a broken archive" in archive_refusal(tmp_path / "x") or "lacks a" in archive_refusal(tmp_path / "x")


@pytest.mark.parametrize("kept", [20, 300, 2000, 3000])
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_truncated_archive_is_refused_by_who_looks_for_its_root(mode: str, kept: int, tmp_path: Path) -> None:
    path = tar(tmp_path / "x", file("set/a", random.Random(1).randbytes(9000)), file("set/b"), mode=mode)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="x is a broken archive"), extraction.opened(path) as contents:
        contents.root("b")


@pytest.mark.parametrize("name", ["/etc/passwd", "../evil", "a/../../evil", "a\\evil", "C:evil", "a\0b"])
def test_a_wanted_name_that_leads_out_of_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", file("a"))
    with pytest.raises(UserError, match="is not a valid file name"), extraction.opened(path) as contents:
        extraction.write(contents, {name: tmp_path / "out"})
    assert not (tmp_path / "out").exists()


def test_wanted_names_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", file("a"), file("A"))
    with pytest.raises(UserError, match="the same name"), extraction.opened(path) as contents:
        list(contents.files({"a", "A"}))


def test_a_sparse_file_whose_zeros_are_nowhere_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a")
    info.type = tarfile.GNUTYPE_SPARSE
    assert "a is a link or a device" in archive_refusal(tar(tmp_path / "x.tar", (info, b"")))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_more_entries_than_any_data_set_has_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "MAX_ENTRIES", 10)
    names = [f"{i}" for i in range(10)] + ["a"]
    if kind == "tar":
        tar(tmp_path / "x", *(file(name) for name in names))
    else:
        with zipfile.ZipFile(tmp_path / "x", "w") as archive:
            for name in names:
                archive.writestr(name, b"")
    assert "has more than 10 entries" in archive_refusal(tmp_path / "x")


def test_many_files_that_unpack_to_more_than_any_picture_would_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "MAX_FILE_SIZE", 1 << 20)
    names = [f"{i}" for i in range(8)]
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(1 << 20))
    with (
        pytest.raises(UserError, match="more than 100 times its size"),
        extraction.opened(tmp_path / "x.zip") as contents,
    ):
        list(contents.files(set(names)))


def test_a_zip_that_claims_fewer_bytes_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1000))
    # The true size stands in the file's own header and in the directory.
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 1000), struct.pack("<I", 10)))
    assert "is a broken archive (Bad CRC-32" in archive_refusal(path)


def test_a_zip_of_a_method_that_names_its_own_need_of_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"abc")
    assert "a is compressed by method 14; pack it again" in archive_refusal(path)


def test_who_reads_an_archive_keeps_his_own_errors(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", file("a"))

    def read() -> None:
        with extraction.opened(path) as contents:
            for _ in contents.files({"a"}):
                raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        read()


GIB = gzip.compress(bytes(1 << 26)) * 16  # gzip's members may be strung together


def said_too_much(kind: bytes) -> bytes:
    """A compressed tar whose first header announces 1 GiB of a name, or of facts, and brings them."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 1 << 30
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT)) + GIB + gzip.compress(file("a")[0].tobuf() + bytes(1024))


def skipped_bomb() -> bytes:
    info = tarfile.TarInfo("b")
    info.size = 1 << 30
    return gzip.compress(info.tobuf()) + GIB + gzip.compress(file("a")[0].tobuf() + bytes(1024))


def large_directory(path: Path) -> None:
    with path.open("wb") as archive:  # 1 GiB of nothing on disk, then the end record of a zip file
        archive.truncate(1 << 30)
        archive.seek(0, os.SEEK_END)
        archive.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 1 << 30, 0, 0))


def test_hostile_archives_get_one_line_each_in_little_memory_and_write_nothing(tmp_path: Path) -> None:
    (tmp_path / "long.tgz").write_bytes(said_too_much(tarfile.GNUTYPE_LONGNAME))
    (tmp_path / "pax.tgz").write_bytes(said_too_much(tarfile.XHDTYPE))
    (tmp_path / "skipped.tgz").write_bytes(skipped_bomb())
    large_directory(tmp_path / "directory.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as bomb:
        for _ in range(32):
            bomb.write(bytes(8 << 20))
    before = sorted(tmp_path.rglob("*"))
    program = (
        "import resource, sys; from pathlib import Path; from fcn.io import extraction\n"
        "from fcn.runtime.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (320 << 20,) * 2)\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    try:\n"
        "        with extraction.opened(path) as contents: extraction.write(contents, {'a': path.with_name('a')})\n"
        "    except UserError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, before)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""  # no MemoryError either: it may have 320 MiB, Python's own included
    assert [line.removeprefix(f"{tmp_path}/") for line in done.stdout.splitlines()] == [
        "bomb.zip: a has more than 64 MiB",
        "directory.zip has more than 32 MiB of metadata; delete it",
        "long.tgz has more than 32 MiB of metadata; delete it",
        "pax.tgz has more than 32 MiB of metadata; delete it",
        f"skipped.tgz: b ends beyond {100 * (tmp_path / 'skipped.tgz').stat().st_size >> 20} MiB; delete it",
    ]
    assert sorted(tmp_path.rglob("*")) == before
