"""Targets of fuzzing and mutation: readers of untrusted files, each with valid files to start from.

A target passes the bytes of one file to its reader. A `UserError` of one line is accepted; so is a
result with the documented properties. Anything else is a finding.
"""

import atexit
import hashlib
import io
import json
import math
import os
import random
import re
import shutil
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from fcn import params
from fcn.data.labels import VOID
from fcn.data.scale import Scale
from fcn.data.split import Split, columns
from fcn.datasets import packing, resizing
from fcn.datasets.label_maps import SCENES
from fcn.datasets.sources import Sample
from fcn.experiments import backfill, trace
from fcn.experiments.history import Snapshot
from fcn.inference import prediction
from fcn.io import caffemodel, extraction
from fcn.models import FCN, fcn
from fcn.models.backbones import vgg
from fcn.models.layers import CAFFE
from fcn.params import Size
from fcn.pipeline import dvc_lock
from fcn.rungs import checkpoint
from fcn.runtime.errors import UserError
from fcn.weights import model_file

from . import folders

ROOT = Path(__file__).parents[2]
FINDINGS = ROOT / ".fuzz" / "findings"
MEMORY = os.environ.get("TMPDIR") or ("/dev/shm" if Path("/dev/shm").is_dir() else None)  # disks are slower
WIDTH, HEIGHT = 12, 8


@cache
def folder() -> Path:
    """A temporary folder of this process, removed at exit."""
    place = tempfile.mkdtemp(prefix="fcn-fuzz-", dir=MEMORY)
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Path(place)


@dataclass(frozen=True)
class Target:
    """seeds: valid files by name; read: lets the reader have one, and checks what it gives."""

    seeds: Callable[[], dict[str, bytes]]
    read: Callable[[bytes], object]


def answer(target: Target, content: bytes) -> str:
    """Empty if the file was read, else the line that refused it.

    raises   AssertionError if the refusal has several lines; whatever else the reader raises
    """
    try:
        target.read(content)
    except UserError as error:
        line = str(error)
    else:
        return ""
    assert line.strip(), "refused without a word"
    assert len(line.splitlines()) == 1, f"refused in several lines: {line!r}"
    return line


def _file(name: str, content: bytes) -> Path:
    path = folder() / name
    path.write_bytes(content)
    return path


# Params


def _params_seeds() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((ROOT / "recipes").glob("*.yaml"))}


def _params(content: bytes) -> None:
    experiment = params.load(_file("params.yaml", content))
    assert params.check(experiment.model_dump(), "again") == experiment


# The packed split: one byte says which of its files is replaced, the others stay valid


@cache
def _split() -> dict[str, bytes]:
    place = folder() / "split"
    place.mkdir()
    samples = [Sample(f"s{i}", *_pictures(f"s{i}", i)) for i in range(3)]
    with (place / "train.csv").open("w") as index, (place / "train.images").open("wb") as images:
        index.write(",".join(columns(SCENES)) + "\n")
        for i, sample in enumerate(samples):
            packed = resizing.resize(sample, SCENES, "native", False)
            assert not isinstance(packed, str)
            images.write(packed.image.tobytes())
            with (place / "train.masks").open("ab") as masks:
                masks.write(packed.mask.tobytes())
            counts = np.bincount(packed.mask.ravel(), minlength=256)
            sizes = [HEIGHT, WIDTH, 3 * i * HEIGHT * WIDTH, HEIGHT, WIDTH, i * HEIGHT * WIDTH, HEIGHT, WIDTH]
            index.write(",".join(map(str, [sample.name, *sizes, counts[VOID], *counts[:8]])) + "\n")
    packing.write_labels(SCENES, place)
    return {name: (place / name).read_bytes() for name in ("train.csv", "classes.json", "train.images", "train.masks")}


def _split_seeds() -> dict[str, bytes]:
    return {name: bytes([i]) + content for i, (name, content) in enumerate(_split().items())}


def _packed(content: bytes) -> None:
    whole = _split()
    names = list(whole)
    replaced = names[content[0] % len(names)] if content else names[0]
    try:
        _file(f"split/{replaced}", content[1:])
        opened = Split(folder() / "split", "train")
        for i in range(min(len(opened), 50)):
            height, width = opened.size(i)
            assert opened.image(i).shape == (height, width, 3)
            assert opened.mask(i).ndim == 2
            opened.name(i)
        opened.pixels()
    finally:
        _file(f"split/{replaced}", whole[replaced])


# Model files


@cache
def _model() -> tuple[bytes, bytes]:
    """Facts and the rest of a small net's file: `model_file.save`, taken apart."""
    torch.manual_seed(0)
    net = FCN(8, 32, "slim", pad="same")
    state = {name: tensor for name, tensor in net.state_dict().items() if name.startswith("score")}
    architecture = {"num_classes": 8, "stride": 32, "backbone": "slim", "pad": "same"}
    meta = model_file.Meta(architecture, CAFFE, SCENES, "ab" * 32, None, 3, 2, {"lr": 0.001, "seed": 1})
    path = folder() / "seed.safetensors"
    model_file.save(path, state, meta)
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]])
    facts = json.loads(header["__metadata__"]["fcn"])
    del facts["sha256"]  # else whatever is changed is refused for being changed
    return json.dumps(facts).encode(), whole


def _meta_seeds() -> dict[str, bytes]:
    facts, _ = _model()
    bare = {"architecture": {"backbone": "slim"}, "labels": None, "parent": None}
    return {"net.json": facts, "backbone.json": json.dumps(json.loads(facts) | bare).encode()}


def _meta(content: bytes) -> None:
    """The facts alone, in a file that is otherwise sound, so that what is tried reaches the reader."""
    text = content.decode("utf-8", "replace")
    header = json.dumps({"__metadata__": {"fcn": text}}).encode()
    path = _file("facts.safetensors", struct.pack("<Q", len(header)) + header)
    model_file.load(path)
    with suppress(UserError):  # it has no layer; but a net of the file's architecture is made before that is seen
        model_file.build(path)


ODD = (
    *(None, True, False, -1, 0, 1, 3, 255, 256, 2**63, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf),
    *("", "R", "RGB", "none", "native", "vgg16", "x" * 1000, "\x1b[2J\x9b", "\u202e", "\ud800", "../..", "a\nb"),
    *([], {}, [[]], {"": None}, [0] * 300, [[0, 0, 0]] * 300, ["sky"] * 8, {"size": 7}),
)


@cache
def _whole() -> tuple[dict[str, Any], bytes]:
    """Facts and the rest of the file of a net with few weights, which `model_file.build` and all behind it can use."""
    fcn.BACKBONES["slim"] = vgg((2, 2, 3, 3, 3), (1, 2, 2, 2, 3), 4, norm=("conv", "fc"))
    architecture = {"num_classes": 8, "stride": 8, "backbone": "slim", "pad": "same", "upsampling": "inner"}
    more = {"at_once": False, "dropout": 0.5}
    meta = model_file.Meta(
        *(architecture | more, CAFFE, SCENES, "ab" * 32, "fcn8s-heavy-pascal", 3, 2, {"lr": 0.1, "train": {"save": 1}}),
        digests={"1": "cd" * 32, "10": "ef" * 32},
        scale=Scale(Size(32, 32), Size(64, 64)),
    )
    path = folder() / "whole.safetensors"
    model_file.save(path, FCN(**architecture).state_dict(), meta)
    whole = path.read_bytes()
    length = 8 + struct.unpack("<Q", whole[:8])[0]
    return json.loads(whole[8:length]), whole[length:]


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Each value inside a value: what holds it, and its key or place there."""
    inside = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [(node, key) for key in inside] + [place for key in inside for place in _places(node[key])]


def altered(facts: Any, rng: random.Random) -> Any:
    """Facts of which one to three values are other, gone, doubled, renamed or another's."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = _places(facts)
        if not places:
            break
        (holder, key), (other, place) = rng.choice(places), rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif kind == 2 and isinstance(holder, dict):
            holder[str(rng.choice(ODD))[:50]] = holder.pop(key)
        elif kind == 3:
            holder[key] = json.loads(json.dumps(other[place]))
        else:
            holder[key] = json.loads(json.dumps(rng.choice(ODD)))
    return facts


def _facts_seeds() -> dict[str, bytes]:
    return {"as it is": b""}


def _facts(content: bytes) -> None:
    """A sound file with other facts, drawn by the content, and all that is made of them: a net, masks, lines."""
    header, rest = _whole()
    facts = json.loads(header["__metadata__"]["fcn"])
    del facts["sha256"]  # else it is refused for being changed
    if content:
        facts = altered(facts, random.Random(content))
    text = json.dumps(header | {"__metadata__": {"fcn": json.dumps(facts)}}).encode()
    path = _file("facts.safetensors", struct.pack("<Q", len(text)) + text + rest)
    net, meta = model_file.build(path)
    model = trace.Model("ab" * 32, path.name, path, meta)
    assert all(line.isprintable() for line in trace._describe(model.sha256, model, {model.sha256: model}, None, ""))
    if meta.labels:
        image = Image.new("RGB", (9, 7))
        size = (meta.scale or Scale()).target(image.size)
        small = max(size) <= 64  # others are refused, or take their time
        found = prediction.predict(net, image, seen=size if small else None, confidence=True)[0]
        assert found.mask.shape == (7, 9)
        assert found.mask.max() < len(meta.labels.names)
        meta.labels.png(found.mask)


def _weights_seeds() -> dict[str, bytes]:
    return {"net.safetensors": _model()[1]}


def _weights(content: bytes) -> None:
    path = _file("a.safetensors", content)
    state, meta = model_file.load(path)
    assert isinstance(meta.scored, bool)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())


def varint(value: int) -> bytes:
    low = b""
    while value > 127:
        low, value = low + bytes([value & 127 | 128]), value >> 7
    return low + bytes([value])


def message(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(varint(number << 3 | 2) + varint(len(content)) + content for number, content in fields)


def _caffe_seeds() -> dict[str, bytes]:
    def blob(*shape: int) -> bytes:
        values = np.arange(int(np.prod(shape)), dtype="<f4").tobytes()
        return message((7, message((1, b"".join(map(varint, shape))))), (5, values))

    def old(*shape: int) -> bytes:
        sides = b"".join(varint(number << 3) + varint(side) for number, side in zip((1, 2, 3, 4), shape, strict=True))
        return sides + message((5, np.arange(int(np.prod(shape)), dtype="<f4").tobytes()))

    convolution = message((1, b"conv1_1"), (2, b"Convolution"), (7, blob(2, 3, 3, 3)), (7, blob(2)))
    deconvolution = message((1, b"upscore2"), (7, blob(2, 1, 4, 4)))
    dense = message((4, b"fc7"), (6, old(1, 1, 3, 2)), (6, old(1, 1, 1, 3)))
    return {"new": message((1, b"net"), (100, convolution), (100, deconvolution)), "old": message((2, dense))}


def _caffe(content: bytes) -> None:
    blobs = caffemodel.read(_file("a.caffemodel", content))
    assert sum(blob.nbytes for layer in blobs.values() for blob in layer) <= max(len(content), 8)
    caffemodel.state_dict(blobs)


# Checkpoint states: the newest of two is replaced


class Steps(torch.nn.Linear):
    """What `Checkpoint` asks of a net and of its optimizer."""

    def state(self, net: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def moments(self) -> dict[str, torch.Tensor]:
        return {"weight:exp_avg": torch.ones(2, 3)}

    def restore(self, net: torch.nn.Module, state: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]) -> None:
        self.load_state_dict(state)


@cache
def _states() -> dict[int, tuple[str, bytes]]:
    """Name and content of a saved state, by its step."""
    found = checkpoint.Checkpoint(folder() / "states" / "a")
    net = Steps(3, 2)
    for number in (3, 7):
        found.number, found.losses = number, [0.5] * number
        found.digests, found.best = {"1": "0" * 64}, {"bias": torch.ones(2)}
        found.save(net, net)  # type: ignore[arg-type]
    return {int(path.name.partition("-")[0]): (path.name, path.read_bytes()) for path in found.saved()}


def _resume_seeds() -> dict[str, bytes]:
    return {"newest": _states()[7][1]}


def _resume(content: bytes) -> None:
    found = checkpoint.Checkpoint(folder() / "states" / "a")
    shutil.rmtree(found.folder)
    found.folder.mkdir()
    states, net = _states(), Steps(3, 2)
    for number, text in ((7, content), (3, states[3][1])):
        (found.folder / states[number][0]).write_bytes(text)
    said = io.StringIO()
    with redirect_stdout(said):
        found.load(net, net)  # type: ignore[arg-type]
    whole = content == states[7][1]
    assert (found.number, len(found.losses)) == ((7, 7) if whole else (3, 3))
    assert len(list(found.saved())) == 1 + whole
    if not whole:
        raise UserError(said.getvalue().splitlines()[0])


# Pictures


def _scene(i: int) -> tuple[Image.Image, Image.Image]:
    rng = np.random.default_rng(i)
    mask = rng.integers(0, 8, (HEIGHT, WIDTH)).astype(np.uint8)
    mask[0, 0] = VOID
    return Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)), SCENES.picture(mask)


@cache
def _pictures(name: str, i: int) -> tuple[Path, Path]:
    image, mask = folder() / f"{name}.png", folder() / f"{name}_mask.png"
    for picture, path in zip(_scene(i), (image, mask), strict=True):
        picture.save(path)
    return image, mask


def _encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def _image_seeds() -> dict[str, bytes]:
    return {kind: _encoded(_scene(0)[0], kind) for kind in ("png", "jpeg", "bmp", "tiff", "webp", "ppm")}


def _mask_seeds() -> dict[str, bytes]:
    grey = Image.fromarray(np.asarray(_scene(0)[1]))
    seeds = {kind: _encoded(_scene(0)[1], kind) for kind in ("png", "bmp", "tiff")}
    return seeds | {"grey png": _encoded(grey, "png")}


def _resized(sample: Sample) -> None:
    packed = resizing.resize(sample, SCENES, Size(6, 4), False)
    if isinstance(packed, str):
        raise UserError(packed)
    assert packed.image.shape == (4, 6, 3)
    assert packed.mask.shape == (4, 6)
    assert ((packed.mask < 8) | (packed.mask == VOID)).all()


def _image(content: bytes) -> None:
    _resized(Sample("s", _file("image", content), _pictures("whole", 0)[1]))


def _mask(content: bytes) -> None:
    _resized(Sample("s", _pictures("whole", 0)[0], _file("mask", content)))


# A commit: one byte says which of its files is replaced, the others stay valid


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@cache
def _commit() -> dict[str, bytes]:
    curve, scores = b"iteration,mean_iu\n2,0.25\n4,0.5\n", b'{"fcn32s": {"mean_iu": 0.5}}'
    digest = _md5(b"packed") + ".dir"
    packed = {"path": "data/resized", "md5": digest}
    graph = {
        "resize": {"cmd": "one", "outs": ["data/resized"]},
        "train": {"cmd": "two", "deps": ["data/resized"], "params": ["lr"], "outs": ["metrics/fcn32s/val.csv"]},
        "evaluate": {"cmd": "three", "deps": ["metrics/fcn32s/val.csv"], "outs": ["metrics/scores.json"]},
    }
    made = {"path": "metrics/fcn32s/val.csv", "md5": _md5(curve)}
    lock = {
        "resize": {"cmd": "one", "outs": [packed]},
        "train": {"cmd": "two", "deps": [packed], "params": {"params.yaml": {"lr": 0.001}}, "outs": [made]},
        "evaluate": {"cmd": "three", "deps": [made], "outs": [{"path": "metrics/scores.json", "md5": _md5(scores)}]},
    }
    return {
        "dvc.lock": yaml.safe_dump({"schema": "2.0", "stages": lock}, sort_keys=False).encode(),
        "dvc.yaml": yaml.safe_dump({"stages": graph}, sort_keys=False).encode(),
        "metrics/fcn32s/val.csv": curve,
        "metrics/scores.json": scores,
        "params.yaml": (ROOT / "recipes" / "scenes.yaml").read_bytes(),
    }


def _commit_seeds() -> dict[str, bytes]:
    return {name: bytes([i]) + content for i, (name, content) in enumerate(_commit().items())}


def _history(content: bytes) -> None:
    whole = _commit()
    names = list(whole)
    replaced = names[content[0] % len(names)] if content else names[0]
    files = whole | {replaced: content[1:]}
    if replaced not in ("dvc.lock", "dvc.yaml", "params.yaml"):  # a digest that agrees, or nobody would read it
        files["dvc.lock"] = files["dvc.lock"].replace(_md5(whole[replaced]).encode(), _md5(content[1:]).encode())
    state = Snapshot("commit abc", files, 0)
    state.check()
    for stage in state.lock:
        for out in state.outs(stage):
            assert re.fullmatch(r"[0-9a-f]{32}(\.dir)?", out["md5"]), out
            assert (ROOT / out["path"]).resolve().is_relative_to(ROOT), out
    for stage in state.stages:
        list(backfill.curves(state, stage))
    assert len(state.experiment.key) == 64
    dvc_lock.stages(files["dvc.lock"])


# Archives


def _archive_seeds() -> dict[str, bytes]:
    members = {"set/train.txt": b"a b\n", "set/a.png": _image_seeds()["png"], "../outside": b"evil"}
    seeds: dict[str, bytes] = {}
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        seeds[f"tar {mode}"] = stream.getvalue()
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as zipped:
            for name, content in members.items():
                zipped.writestr(name, content)
        seeds[f"zip {method}"] = stream.getvalue()
    return seeds


def _archive(content: bytes) -> None:
    out = folder() / "in" / "out"
    places = {"set/train.txt": out / "train.txt", "set/a.png": out / "a.png"}
    try:
        with extraction.opened(_file("archive", content)) as contents:
            extraction.write(contents, places)
    finally:
        written = {p for p in (folder() / "in").rglob("*") if not p.is_dir()}
        for path in written:
            path.unlink()
        assert written <= set(places.values()), f"written outside: {sorted(written - set(places.values()))}"


TARGETS = {
    "params": Target(_params_seeds, _params),
    "packed": Target(_split_seeds, _packed),
    "metadata": Target(_meta_seeds, _meta),
    "facts": Target(_facts_seeds, _facts),
    "weights": Target(_weights_seeds, _weights),
    "caffemodel": Target(_caffe_seeds, _caffe),
    "resume": Target(_resume_seeds, _resume),
    "image": Target(_image_seeds, _image),
    "mask": Target(_mask_seeds, _mask),
    "archive": Target(_archive_seeds, _archive),
    "folder": Target(folders.seeds, lambda recipe: folders.inspected(recipe, folder() / "hostile")),
    "commit": Target(_commit_seeds, _history),
}
