"""The careful download, against a host of many moods on this machine."""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from fcn.io import download, extraction, pins, transfer
from fcn.io.archive import Archive
from fcn.runtime.errors import UserError

NOISE = np.random.default_rng(0).bytes(200_000)
HALF = 100_000
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


def packed(name: str) -> bytes:
    """A real archive with one file of noise, `a`."""
    file = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(file, "w") as zipped:
            zipped.writestr("a", NOISE)
    else:
        with tarfile.open(fileobj=file, mode="w:gz" if name.endswith(".tgz") else "w") as tarred:
            info = tarfile.TarInfo("a")
            info.size = len(NOISE)
            tarred.addfile(info, io.BytesIO(NOISE))
    return file.getvalue()


CONTENT = packed("a.zip")
OLD = b"PK" + bytes(len(CONTENT) - 2)  # what a.zip was before its makers replaced it


class Host(http.server.BaseHTTPRequestHandler):
    """Each path is a mood: redirects, ranges, pages in place of files, answers that break off or never end."""

    protocol_version = "HTTP/1.1"
    content = CONTENT
    requests: list[tuple[str, str | None]]
    released: threading.Event

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):  # the other side may have had enough
            self._get()

    def _get(self) -> None:
        self.asked = self.headers.get("Range")
        first = self.path not in [path for path, _ in self.requests]
        self.requests.append((self.path, self.asked))
        self.close_connection = True
        match self.path:
            case "/moved":
                self._answer(302, b"", Location="/file")
            case "/page":
                self._answer(200, PAGE, **{"Content-Type": "text/html; charset=utf-8"})
            case "/disguised":
                self._answer(200, b"\n" + PAGE + bytes(600))
            case "/missing":
                self._answer(404, b"")
            case "/busy":
                self._answer(503, b"") if first else self._file()
            case "/plain":
                self._answer(200, self.content)
            case "/breaks":
                self._answer(200, self.content, cut=HALF, ETag='"1"') if first else self._file()
            case "/short":
                self._answer(200, self.content, cut=HALF)
            case "/stalls":
                self._answer(200, self.content, cut=HALF, ETag='"1"', wait=True) if first else self._file()
            case "/trickles":
                self._trickle()
            case "/encoded":
                self._answer(200, gzip.compress(self.content), **{"Content-Encoding": "gzip"})
            case "/brotli":
                self._answer(200, self.content, **{"Content-Encoding": "br"})
            case "/unpacked":
                self._answer(200, gzip.decompress(self.content))
            case "/chunked":
                self._chunked(len(self.content), end=True)
            case "/chunked-short":
                self._chunked(HALF, end=False)
            case "/replaced" | "/replaced-unseen":
                self._replaced(first)
            case _:
                self._file()

    def _file(self, etag: str = '"1"', heed: bool = True) -> None:
        """The file, or the range asked for, if it is still of the same file."""
        condition = self.headers.get("If-Range", etag)
        if not self.asked or (heed and condition != etag):
            return self._answer(200, self.content, ETag=etag)
        start, size = int(self.asked.removeprefix("bytes=").rstrip("-")), len(self.content)
        if start >= size:
            return self._answer(416, b"", **{"Content-Range": f"bytes */{size}"})
        self._answer(206, self.content[start:], ETag=etag, **{"Content-Range": f"bytes {start}-{size - 1}/{size}"})

    def _replaced(self, first: bool) -> None:
        if first:
            return self._answer(200, OLD, cut=HALF, ETag='"old"')
        self._file('"new"', heed=self.path == "/replaced")

    def _answer(self, code: int, body: bytes, cut: int | None = None, wait: bool = False, **headers: str) -> None:
        self.send_response(code)
        kind = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
        for name, value in (kind | headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if wait:
            self.released.wait(20)

    def _trickle(self) -> None:
        self._answer(200, self.content, cut=0)
        for byte in self.content:
            self.wfile.write(bytes([byte]))
            if self.released.wait(0.02):
                return

    def _chunked(self, size: int, end: bool) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, size, 30_000):
            piece = self.content[start : min(start + 30_000, size)]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n" if end else b"")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("FCN_MIRROR", raising=False)
    monkeypatch.setattr(download, "RETRY_DELAYS", (0, 0))
    monkeypatch.setattr(download, "MIN_GAIN", 1000)
    monkeypatch.setattr(Host, "content", CONTENT)
    Host.requests, Host.released = [], threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Host.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Where what has begun to come lies."""
    path = tmp_path / ".fcn" / "downloads" / "a.zip.part"
    path.parent.mkdir(parents=True)
    return path


def archive(*urls: str) -> Archive:
    return Archive("a.zip", urls, "free", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def unchecked(*urls: str, name: str = "a.zip") -> Archive:
    """One whose digest nobody publishes."""
    return Archive(name, urls, "free")


def refusal(wanted: Archive) -> str:
    with pytest.raises(UserError) as caught:
        download.fetch(wanted)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mood", ["file", "moved", "breaks", "busy", "stalls", "encoded", "chunked", "plain"])
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_an_archive_arrives_whole_from_a_host_of_any_mood(
    host: str, tmp_path: Path, mood: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "content", packed(name))
    monkeypatch.setattr(transfer, "TIMEOUT", (5, 0.5 if mood == "stalls" else 5))
    got = download.fetch(unchecked(f"{host}/{mood}", name=name))
    assert got == tmp_path / ".fcn" / "downloads" / name
    assert got.read_bytes() == Host.content
    with extraction.opened(got) as contents:
        assert contents.read("a") == NOISE
    left = {path.name for path in got.parent.iterdir()}
    assert left == {name, f"{name}.lock"}


@pytest.mark.parametrize("mood", ["breaks", "stalls"])
def test_a_file_that_broke_off_is_resumed_where_it_ended(host: str, mood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", (5, 0.5))
    download.fetch(archive(f"{host}/{mood}"))
    assert Host.requests == [(f"/{mood}", None), (f"/{mood}", f"bytes={HALF}-")]


def test_a_download_that_was_killed_goes_on_where_it_was(host: str, part: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from fcn.io import download; from fcn.io.archive import Archive\n"
        "download.fetch(Archive('a.zip', (sys.argv[1],), 'free'))"
    )
    with subprocess.Popen([sys.executable, "-c", program, f"{host}/stalls"], cwd=ROOT, stderr=subprocess.DEVNULL) as p:
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        p.send_signal(signal.SIGKILL)
    begun = part.stat().st_size
    assert 0 < begun <= HALF
    assert download.fetch(unchecked(f"{host}/stalls")).read_bytes() == CONTENT
    assert Host.requests[1:] == [("/stalls", f"bytes={begun}-")]


@pytest.mark.parametrize("mood", ["replaced", "replaced-unseen"])
def test_two_states_of_a_file_are_never_put_together(host: str, mood: str) -> None:
    """The server replaces it after half of the old one came; an honest one heeds If-Range, another does not."""
    assert download.fetch(unchecked(f"{host}/{mood}")).read_bytes() == CONTENT
    assert Host.requests[1] == (f"/{mood}", f"bytes={HALF}-")


def test_nothing_is_joined_that_neither_host_nor_digest_vouches_for(host: str, part: Path) -> None:
    part.write_bytes(OLD[:1000])
    assert download.fetch(unchecked(f"{host}/file")).read_bytes() == CONTENT
    assert Host.requests == [("/file", None)]


def test_a_file_of_known_digest_is_resumed_at_another_host(host: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    got = download.fetch(archive(f"{host}/short", f"{host}/file"))
    assert got.read_bytes() == CONTENT
    assert Host.requests[-1] == ("/file", f"bytes={HALF}-")


def test_a_part_of_another_file_costs_a_second_beginning(host: str, part: Path) -> None:
    part.write_bytes(b"x" * 1000)
    assert download.fetch(archive(f"{host}/file")).read_bytes() == CONTENT
    assert Host.requests == [("/file", "bytes=1000-"), ("/file", None)]


def test_a_part_that_was_whole_when_it_was_left_is_taken(host: str, part: Path) -> None:
    part.write_bytes(CONTENT)
    assert download.fetch(archive(f"{host}/file")).read_bytes() == CONTENT
    assert len(Host.requests) == 1


def test_a_part_longer_than_the_file_is_begun_anew(host: str, part: Path) -> None:
    part.write_bytes(CONTENT + b"more")
    assert download.fetch(archive(f"{host}/file")).read_bytes() == CONTENT


@pytest.mark.parametrize("mood", ["page", "disguised"])
def test_a_web_page_is_no_file_and_spoils_none_that_was_begun(host: str, part: Path, mood: str) -> None:
    part.write_bytes(CONTENT[:1000])
    wanted = Archive("a.zip", (f"{host}/{mood}",), "free", hashlib.sha256(CONTENT).hexdigest())
    assert "the response is a web page, not the file" in refusal(wanted)
    assert part.read_bytes() == CONTENT[:1000]


def test_a_tgz_that_the_server_unpacked_is_as_good(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed("a.tgz")
    monkeypatch.setattr(Host, "content", content)
    known = tuple(hashlib.md5(form).hexdigest() for form in (content, gzip.decompress(content)))
    for mood in ("unpacked", "file"):
        got = download.fetch(Archive("a.tgz", (f"{host}/{mood}",), "free", size=len(content), md5=known))
        with extraction.opened(got) as contents:
            assert contents.read("a") == NOISE
        got.unlink()
    stranger = Archive("a.tgz", (f"{host}/unpacked",), "free", size=len(content), md5=known[:1])
    assert f"its md5 is {known[1]}, not {known[0]}" in refusal(stranger)


@pytest.mark.parametrize(
    ("mood", "why"),
    [
        ("missing", "status 404 Not Found"),
        ("short", "broke off"),
        ("chunked-short", "broke off"),
        ("brotli", "sends it with Content-Encoding br"),
        ("trickles", "less than 64 KiB in"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(
    host: str, mood: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Time enough for a busy machine to let each byte through, of which there are too few all the same.
    monkeypatch.setattr(transfer, "TIMEOUT", (5, 1.5))
    monkeypatch.setattr(download, "RETRY_DELAYS", ())
    assert f"{host}/{mood}: {why}" in refusal(unchecked(f"{host}/{mood}"))
    assert not (tmp_path / ".fcn" / "downloads" / "a.zip").exists()


def test_a_file_of_another_size_is_not_fetched_at_all(host: str, tmp_path: Path) -> None:
    wanted = Archive("a.zip", (f"{host}/file",), "free", "0" * 64, 7)
    assert f"it has {len(CONTENT)} bytes, 7 are published" in refusal(wanted)
    assert not (tmp_path / ".fcn" / "downloads" / "a.zip.part").exists()


def test_a_file_of_another_digest_is_not_kept(host: str, tmp_path: Path) -> None:
    found = hashlib.sha256(CONTENT).hexdigest()
    assert f"its sha256 is {found}, not {'0' * 64}" in refusal(Archive("a.zip", (f"{host}/file",), "free", "0" * 64))
    assert [path.name for path in (tmp_path / ".fcn" / "downloads").iterdir()] == ["a.zip.lock"]


def test_plain_http_is_warned_of_until_a_digest_guards_it_and_another_file_is_then_not_kept(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted, first = unchecked(f"{host}/file"), hashlib.sha256(CONTENT).hexdigest()
    path = download.fetch(wanted)
    assert f"warning: a.zip is fetched from {host}/file without encryption" in capfd.readouterr().err
    pins.record_unpublished(wanted, path)
    path.unlink()
    download.fetch(wanted)
    assert "warning" not in capfd.readouterr().err
    path.unlink()
    monkeypatch.setattr(Host, "content", OLD)
    reason = refusal(wanted)
    assert f"its sha256 is {hashlib.sha256(OLD).hexdigest()}, not {first}" in reason
    assert reason.endswith(
        f"recorded at first use; delete the line in {tmp_path}/pins/datasets/a.sha256 to accept another"
    )
    assert not path.exists()


def test_a_file_that_never_ends_is_given_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_SIZE", 50_000)
    assert "it has more than 50000 bytes" in refusal(unchecked(f"{host}/chunked"))


def test_nothing_is_fetched_twice(host: str) -> None:
    with ThreadPoolExecutor(4) as pool:  # two processes lock each other out in the same way
        assert len(set(pool.map(download.fetch, [archive(f"{host}/file")] * 4))) == 1
    download.fetch(archive(f"{host}/file"))
    assert len(Host.requests) == 1


def test_the_next_address_is_tried_at_once_when_one_fails(host: str, capfd: pytest.CaptureFixture[str]) -> None:
    got = download.fetch(archive(f"{host}/missing", f"{host}/page", f"{host}/file"))
    assert got.read_bytes() == CONTENT
    assert [path for path, _ in Host.requests] == ["/missing", "/page", "/file"]
    assert f"a.zip: {host}/missing: status 404 Not Found" in capfd.readouterr().err


def test_without_network_and_mirror_it_says_which_files_to_put_where(host: str, tmp_path: Path) -> None:
    wanted = [archive(f"{host}/missing", f"{host}/page"), unchecked(f"{host}/missing", name="b.tar")]
    with pytest.raises(UserError) as caught:
        download.fetch_all(wanted)
    first, second = str(caught.value).splitlines()
    place = f"put the file into {tmp_path / '.fcn' / 'downloads'}, or into a folder that FCN_MIRROR names"
    assert first.startswith(f"a.zip could not be fetched ({host}/missing: status 404")
    assert "the response is a web page, not the file" in first
    assert first.endswith(f"{place}; it has {len(CONTENT)} bytes, sha256 {hashlib.sha256(CONTENT).hexdigest()}")
    assert second.strip().startswith("b.tar could not be fetched")
    assert second.endswith(place)


def test_the_mirror_comes_first_and_is_relative_to_the_main_checkout(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.zip").write_bytes(CONTENT)
    monkeypatch.setenv("FCN_MIRROR", "mirror")
    assert download.fetch(archive(f"{host}/file")) == tmp_path / "mirror" / "a.zip"
    assert not Host.requests
    (tmp_path / "mirror" / "a.zip").unlink()
    assert download.fetch(archive(f"{host}/file")) == tmp_path / ".fcn" / "downloads" / "a.zip"


def test_a_mirror_that_is_no_folder_is_not_passed_over(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCN_MIRROR", "mirorr")
    assert refusal(archive(f"{host}/file")).startswith(f"FCN_MIRROR is 'mirorr', but {tmp_path}/mirorr is not a folder")
    assert not Host.requests


@pytest.mark.parametrize(
    ("content", "why"),
    [(CONTENT[:-1] + b"x", "its sha256 is "), (CONTENT[:-1], "bytes, "), (PAGE, "it is a web page")],
)
def test_a_wrong_file_in_the_mirror_is_named_and_left_alone(
    host: str, content: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
    message = refusal(archive(f"{host}/file"))
    assert message.startswith(f"{tmp_path}/a.zip is not the published a.zip: ")
    assert why in message
    assert (tmp_path / "a.zip").read_bytes() == content


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_a_file_of_unknown_digest_is_at_least_of_its_kind(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(NOISE)
    monkeypatch.setenv("FCN_MIRROR", str(tmp_path))
    assert "archive" in refusal(unchecked("http://127.0.0.1:9/", name=name))


def test_a_full_disk_is_said_in_one_line_and_what_came_is_kept(host: str, part: Path) -> None:
    program = (
        "import sys; from fcn.io import download; from fcn.runtime.errors import one_line\n"
        "from fcn.io.archive import Archive\n"
        "with one_line(): download.fetch(Archive('a.zip', (sys.argv[1],), 'free'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, f"{host}/file"],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, HALF)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"error: File too large: {part}; free some room and run the same command again" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert part.stat().st_size == HALF
    assert download.fetch(unchecked(f"{host}/file")).read_bytes() == CONTENT
    assert Host.requests[1:] == [("/file", f"bytes={HALF}-")]


def test_a_disk_too_small_for_the_file_is_noticed_before_it_is_full(
    host: str, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(OSError, match=f"No room for {len(CONTENT)} bytes: '{part}'"):
        download.fetch(archive(f"{host}/file"))
    assert not part.exists()
