"""The server with nets of other inputs than RGB and with two score paths."""

import asyncio
import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from conftest import Checkout
from makers import encoded
from model_files import net_of, noise
from PIL import Image
from servers import serving

from fcn.data.depth import encode
from fcn.datasets.label_maps import SCENES, SCENES_GEOMETRIC
from fcn.inference import prediction
from fcn.models import Net
from fcn.runtime.errors import UserError
from fcn.serving import request_limits, response

WIDTH, HEIGHT = 50, 40
RNG = np.random.default_rng(3)
IMAGE, HHA = noise(WIDTH, HEIGHT, 1), noise(WIDTH, HEIGHT, 2)
DEPTH = RNG.integers(500, 9000, (HEIGHT, WIDTH)).astype(np.uint16)
INFRARED = RNG.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
BANDS = RNG.integers(0, 256, (HEIGHT, WIDTH, 5), np.uint8)


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def png(picture: Image.Image | npt.NDArray[Any]) -> str:
    return text(encoded(picture if isinstance(picture, Image.Image) else Image.fromarray(picture), "png"))


def tiff(pixels: npt.NDArray[np.uint8], **how: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="minisblack", planarconfig="contig", **how)
    return file.getvalue()


FILES = {
    "image": png(IMAGE),
    "hha": png(HHA),
    "depth": png(DEPTH),
    "infrared": png(INFRARED),
    "bands": text(tiff(BANDS)),
}
CHANNELS = {
    "rgb": np.asarray(IMAGE), "hha": np.asarray(HHA), "depth": encode(DEPTH)[:, :, None],
    "infrared": INFRARED[:, :, None], "bands": BANDS,
}  # fmt: skip


def pixels(answer: dict[str, Any], name: str = "mask") -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer[name]))))


@pytest.mark.parametrize(
    ("fusion", "inputs"),
    [
        ("early", {"rgb": 3, "depth": 1}),
        ("late", {"rgb": 3, "hha": 3}),
        ("early", {"depth": 1}),
        ("early", {"infrared": 1, "rgb": 3}),
        ("late", {"bands": 5, "depth": 1}),
    ],
)
def test_the_files_of_a_record_are_the_channels_of_the_net(tmp_path: Path, fusion: str, inputs: dict[str, int]) -> None:
    net = net_of(tmp_path / "net.safetensors", fusion=fusion, **inputs)
    record = {column: FILES[column] for column in response.columns(inputs).values()}
    (answer,) = response.segment(net, [SCENES], [record])
    expected = prediction.predict(net, np.concatenate([CHANNELS[name] for name in inputs], 2))[0].mask
    assert len(np.unique(expected)) > 1
    assert np.array_equal(pixels(answer), expected)
    assert answer.keys() == {"mask", "classes", "shares"}


def test_the_answer_of_a_net_with_two_score_paths_has_both(tmp_path: Path) -> None:
    net = net_of(tmp_path / "net.safetensors", geometric=3)
    _, labels, _ = prediction.load(tmp_path / "net.safetensors")
    (answer,) = response.segment(net, labels, [{"image": FILES["image"]}])
    for prefix, classes, result in zip(
        ("", "geometric_"), (SCENES, SCENES_GEOMETRIC), prediction.predict(net, IMAGE), strict=True
    ):
        assert np.array_equal(pixels(answer, f"{prefix}mask"), result.mask)
        assert answer[f"{prefix}classes"] == list(classes.names)
        assert answer[f"{prefix}shares"] == [(result.mask == k).mean() for k in range(len(classes.names))]


@pytest.fixture(scope="module")
def rgbd(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return net_of(tmp_path_factory.mktemp("net") / "net.safetensors", rgb=3, depth=1)


def large(side: int) -> str:
    return png(Image.new("1", (side, side)))


@pytest.mark.parametrize(
    ("depth", "line"),
    [
        (None, "depth 0 is not a string; send the file in base64"),
        (7, "depth 0 is not a string; send the file in base64"),
        ("=no=", "depth 0 is not valid base64"),
        ("A" * (44_739_244 + 4), "depth 0 is larger than 32 MiB"),
        (FILES["depth"][:300], "depth 0 cannot be decoded"),
        (png(DEPTH[:20]), "depth 0 is 50x20, image 0 is 50x40; all files of a record have the same size"),
        (png(DEPTH.T.copy()), "depth 0 is 40x50, image 0 is 50x40; all files of a record have the same size"),
        (png(INFRARED), "depth 0 has mode L; this input is a greyscale image of 16 bits"),
        (FILES["image"], "depth 0 has mode RGB; this input is a greyscale image of 16 bits"),
        (large(9000), "depth 0 has more than 64 million pixels"),
        (large(8000), "depth 0 is too large; a request may have at most 64000000 pixels"),
    ],
)  # fmt: skip
def test_each_file_of_a_record_has_the_limits_of_an_image(rgbd: Net, depth: object, line: str) -> None:
    with pytest.raises(UserError) as caught:
        response.segment(rgbd, [SCENES], [{"image": FILES["image"], "depth": depth}])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_later_records_broken_header_stops_the_request_before_the_first_is_computed(
    rgbd: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"image": FILES["image"], "depth": FILES["depth"]}
    monkeypatch.setattr(rgbd, "forward", None)
    with pytest.raises(UserError, match="depth 1 cannot be decoded"):
        response.segment(rgbd, [SCENES], [good, good | {"depth": text(b"no image")}])


def changed(content: bytes, **tags: int) -> bytes:
    """A TIFF with other values of some tags."""
    whole = bytearray(content)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        for name, value in tags.items():
            tag = file.pages[0].tags[name]  # type: ignore[union-attr]
            size = {3: 2, 4: 4}[int(tag.dtype)]
            whole[tag.valueoffset : tag.valueoffset + size] = value.to_bytes(size, "little")
    return bytes(whole)


def deflated(data: bytes) -> bytes:
    """A TIFF of 50×40 with five bands whose only strip is this, already deflated."""
    whole = tiff(BANDS, compression="zlib")
    return changed(whole, StripOffsets=len(whole), StripByteCounts=len(data)) + data


@pytest.mark.parametrize(
    ("bands", "line"),
    [
        (tiff(BANDS[:, :, :4].copy()), "bands 0 has 4 channels; the net takes 5"),
        (encoded(IMAGE, "png"), "bands 0 cannot be decoded"),
        (changed(tiff(BANDS, compression="zlib"), ImageWidth=6000, ImageLength=6000), "bands 0 is too large"),
        (tiff(BANDS, compression="lzma"), "bands 0 cannot be decoded (its data are longer than its size says, or"),
        (tiff(BANDS)[:500], "bands 0 cannot be decoded"),
        (changed(tiff(INFRARED, metadata=None), ImageLength=0), "bands 0 is 50x0 with 0 bands"),
    ],
)
def test_bands_that_cannot_be_answered_are_one_line(tmp_path: Path, bands: bytes, line: str) -> None:
    net = net_of(tmp_path / "net.safetensors", bands=5)
    with pytest.raises(UserError) as caught:
        response.segment(net, [SCENES], [{"bands": text(bands)}])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_deflate_bomb_in_a_tiff_is_not_inflated(tmp_path: Path) -> None:
    import tracemalloc

    net = net_of(tmp_path / "net.safetensors", bands=5)
    assert response.segment(net, [SCENES], [{"bands": text(deflated(zlib.compress(BANDS.tobytes())))}])
    content = text(deflated(zlib.compress(bytes(100 << 20))))
    tracemalloc.start()
    with pytest.raises(UserError, match="bands 0 cannot be decoded"):
        response.segment(net, [SCENES], [{"bands": content}])
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def answered(body: object, columns: list[str]) -> tuple[int, str]:
    """Status and message of RequestLimits before an application that says yes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"message": ""}'})

    sent: list[Any] = []
    parts = [content]

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": parts.pop(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "path": "/invocations", "method": "POST", "headers": headers}
    asyncio.run(request_limits.RequestLimits(app, 1000, 60, columns=columns)(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])["message"]


RECORD = {"image": "A", "depth": "B"}
TAKES = "this net takes image and depth"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"dataframe_records": [RECORD, RECORD]}, ""),
        ({"dataframe_split": {"columns": ["depth", "image"], "data": [["A", "B"]]}}, ""),
        ({"instances": [RECORD]}, ""),
        ({"inputs": {"image": ["A"], "depth": ["B"]}}, ""),
        ({"dataframe_records": [RECORD], "params": {"a": 1}}, ""),
        ({"dataframe_records": [RECORD, {"image": "A"}]}, f"a record has no depth; {TAKES}"),
        ({"dataframe_records": [RECORD | {"hha": "C"}]}, f"a record has 'hha'; {TAKES}"),
        ({"dataframe_records": [{"image": "A", "Depth": "B"}]}, f"a record has 'Depth'; {TAKES}"),
        ({"inputs": {"image": ["A"]}}, f"a record has no depth; {TAKES}"),
        ({"instances": [{}]}, f"a record has no image; {TAKES}"),
        ({"dataframe_split": {"columns": ["depth", "image", "depth"], "data": 0}}, f"a column is given twice; {TAKES}"),
        (b'{"dataframe_records": [{"image": "A", "depth": "B", "depth": "C"}]}', "'depth' is given twice"),
        (b'{"dataframe_records": [], "dataframe_records": []}', "'dataframe_records' is given twice"),
    ],
)  # fmt: skip
def test_a_request_names_each_input_of_the_net_once_and_nothing_else(body: object, line: str) -> None:
    assert answered(body, ["image", "depth"]) == (400 if line else 200, line)


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        b"7",
        b'{"dataframe_records": 7}',
        b'{"dataframe_records": ["A"]}',
        b'{"dataframe_split": []}',
        b'{"dataframe_split": {"columns": 7}}',
        b"\xff",
        b"[" * 200 + b"]" * 200,
    ],
)
def test_what_is_no_request_at_all_is_left_to_mlflow(body: bytes) -> None:
    assert answered(body, ["image"])[0] == 200


@pytest.mark.slow
def test_colour_and_depth_are_registered_and_served_with_both_labels(pristine: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    checkout = Checkout(folder, pristine)
    path = folder / "data/weights/fcn8s.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    net = net_of(path, geometric=3, fusion="late", rgb=3, depth=1)
    checkout.run("fcn", "register")
    with serving(checkout) as server:
        assert "; it takes image and depth; " in server.line
        (answer,) = server.post({"image": FILES["image"], "depth": FILES["depth"]}).json()["predictions"]
        expected = prediction.predict(net, np.concatenate([CHANNELS["rgb"], CHANNELS["depth"]], 2))
        assert np.array_equal(pixels(answer), expected[0].mask)
        assert np.array_equal(pixels(answer, "geometric_mask"), expected[1].mask)
        for record, message in (
            ({"image": FILES["image"]}, "a record has no depth; this net takes image and depth"),
            ({"image": FILES["image"], "depth": FILES["infrared"]}, "depth 0 has mode L; this input is a greyscale"),
            ({"image": FILES["image"], "depth": 7}, "depth 0 is not a string; send the file in base64"),
            ({"image": FILES["image"], "depth": png(DEPTH[:9])}, "depth 0 is 50x9, image 0 is 50x40"),
        ):
            refused = server.post(record)
            assert refused.status_code == 400
            assert refused.json()["message"].startswith(message)
