"""One rung of the ladder: start from the coarser net, train, validate, save, and go on after a kill.

FCN-32s, FCN-16s and FCN-8s are this function with other arguments.
"""

import csv
import fcntl
import io
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from safetensors.torch import save_file

from fcn import evaluation, files, machine, pipeline, tracking, weights
from fcn.data import Split
from fcn.errors import UserError
from fcn.layers import PREPROCESSINGS
from fcn.metrics import scores
from fcn.models import FCN
from fcn.params import Params, Rung
from fcn.progress import Progress
from fcn.sampling import Sampler, class_weights
from fcn.training import Optimizer, freeze, rate, steps

SAVE_EVERY = 60.0  # seconds between two resume states
LOSS_EVERY = 10  # steps in one point of the loss curve

Row = dict[str, float]


@dataclass
class Progressed:
    """How far a rung is: what a resume state holds beside the weights."""

    number: int = 0
    losses: list[float] = field(default_factory=list)
    train: list[Row] = field(default_factory=list)
    val: list[Row] = field(default_factory=list)
    best: float = -1.0


def climb(stage: str, stride: int, params: Params, *, data: Path, parent: Path, out: Path, curves: Path) -> None:
    """Trains FCN-`stride`s as its section of params says.

    data     folder of the packed splits
    parent   model file to start from
    out      model file to write
    curves   folder for train.csv and val.csv
    """
    rung, device = params.rung(stride), machine.device()
    entry = pipeline.read(stage, params)
    fingerprint = entry.fingerprint(torch=torch.__version__, device=device.type, threads=torch.get_num_threads())
    with (
        _alone(out),
        tracking.stage(stage, params, entry.params) as run,
    ):
        state = machine.root() / ".fcn" / "states" / fingerprint
        parent_state, parent_meta = weights.load(parent)
        train, val = Split(data, "train"), Split(data, "val")
        net = _net(train, stride, params, parent_meta)
        generator = torch.Generator().manual_seed(params.seed * 64 + stride)
        table = weights.transplant(net, parent_state, init_std=params.model.init_std, generator=generator)
        print(_summary(stride, params, rung, train, table), flush=True)
        run.data(data, "train", "training")
        run.data(data, "val", "validation")
        run.tag(fingerprint=fingerprint, parent__sha256=files.sha256(parent))
        best, progressed = _train(net, train, val, params, rung, stride, device, state, run)
        meta = weights.Meta(
            architecture=_architecture(train, stride, params),
            preprocessing=net.preprocessing,
            labels=train.labels,
            parent=files.sha256(parent),
            iterations=progressed.number,
            threads=torch.get_num_threads(),
            params=entry.params,
        )
        weights.save(out, best, meta)
        _write_curve(curves / "train.csv", progressed.train, ["iteration", "lr", "loss"])
        _write_curve(curves / "val.csv", progressed.val, ["iteration", *_SCORES])
        run.tag(model__sha256=files.sha256(out), model__path=out.as_posix())
        run.artifact(_write_table(state, table), stage)
        shutil.rmtree(state, ignore_errors=True)


_SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")


def _train(
    net: FCN,
    train: Split,
    val: Split,
    params: Params,
    rung: Rung,
    stride: int,
    device: torch.device,
    folder: Path,
    run: tracking.Run,
) -> tuple[weights.State, Progressed]:
    """The net's last or best weights, and the curves."""
    if rung.freeze == "backbone":
        freeze(net)
    net.to(device, memory_format=torch.channels_last)
    optimizer = Optimizer(net, params)
    progressed, best = _resume(folder, net, optimizer)
    given = class_weights(train, params.data.class_weights)
    weight = None if given is None else torch.tensor(given, dtype=torch.float32, device=device)
    sampler = Sampler(train, params.data, seed=params.seed, stride=stride, batch_size=params.batch_size)
    bar = Progress(f"FCN-{stride}s", rung.iterations, progressed.number, params.batch_size)
    saved = time.monotonic()
    with _signals() as asked_to_stop:
        for step in steps(net, optimizer, sampler, params, rung, weight=weight, start=progressed.number):
            loss = float(step.loss)
            if loss != loss or loss in (float("inf"), float("-inf")):
                raise UserError(
                    f"the loss is {loss} at step {step.number} (lr {step.lr:.3g}, images "
                    f"{', '.join(step.images)}); a lower lr may help"
                )
            progressed.number = step.number
            progressed.losses.append(loss)
            bar.step(loss)
            if step.number % LOSS_EVERY == 0 or step.number == rung.iterations:
                mean = sum(progressed.losses) / len(progressed.losses)
                progressed.train.append({"iteration": step.number, "lr": step.lr, "loss": mean})
                progressed.losses.clear()
            if step.number % rung.validate_every == 0 or step.number == rung.iterations:
                result = scores(evaluation.count(net, val)).asdict()
                progressed.val.append({"iteration": step.number, **result})
                bar.say(f"step {step.number}: mean IU {result['mean_iu']:.3f} on val")
                since = progressed.val[-2]["iteration"] if len(progressed.val) > 1 else 0
                run.curve([row for row in progressed.train if row["iteration"] > since])
                run.curve([{"iteration": step.number, **{f"val.{k}": v for k, v in result.items()}}])
                if rung.save == "best" and result["mean_iu"] > progressed.best:
                    progressed.best = result["mean_iu"]
                    best = {name: tensor.clone() for name, tensor in optimizer.state(net).items()}
            if asked_to_stop or time.monotonic() - saved > SAVE_EVERY:
                _save_state(folder, net, optimizer, best, progressed)
                saved = time.monotonic()
            if asked_to_stop:
                bar.close()
                raise SystemExit(128 + asked_to_stop[0])
    bar.close()
    return best or optimizer.state(net), progressed


def _net(train: Split, stride: int, params: Params, parent: weights.Meta) -> FCN:
    wanted = PREPROCESSINGS[params.model.preprocessing]
    if parent.preprocessing != wanted:
        raise UserError(
            f"the parent's weights expect {parent.preprocessing}, model.preprocessing "
            f"{params.model.preprocessing!r} is {wanted}; they must agree"
        )
    net = FCN(**_architecture(train, stride, params), preprocessing=wanted)
    if net.backbone.batch_norm and params.rung(stride).accumulate > 1:
        raise UserError(
            "batch norm takes its statistics over one pass, so accumulation changes them; set accumulate: 1"
        )
    return net


def _architecture(train: Split, stride: int, params: Params) -> dict[str, str | int | float | bool]:
    return {
        "num_classes": len(train.labels.names),
        "stride": stride,
        "backbone": params.model.backbone,
        "pad": params.model.pad,
        "upsampling": params.model.upsampling,
        "dropout": params.model.dropout,
    }


def _summary(stride: int, params: Params, rung: Rung, train: Split, table: list[tuple[str, str]]) -> str:
    """The rate in both units, since one alone means nothing, and where each layer comes from."""
    height, width = train.size(0)
    if params.data.crop != "none":
        width, height = map(int, params.data.crop.split("x"))
    lr, pixels = rate(rung, params.lr, 1), height * width * params.batch_size
    other = f"{lr * pixels:.2g} on the mean" if params.loss == "sum" else f"{lr / pixels:.2g} on the sum"
    text = {"sum": "summed", "mean": "mean"}[params.loss]
    momentum = f", momentum {params.momentum:g}" if params.optimizer == "sgd" else ""
    lines = [
        f"FCN-{stride}s: {rung.iterations} steps of {params.batch_size} images, {params.optimizer}, {params.precision}",
        f"lr {lr:.3g} on the {text} loss = {other} at {height}×{width}{momentum}",
    ]
    for what in ("carried", "created", "dropped"):
        layers = [layer for layer, fate in table if fate == what]
        lines.append(f"{what:8} {' '.join(layers) or '-'}")
    return "\n".join(lines)


def _write_table(folder: Path, table: list[tuple[str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "layers.csv"
    files.write_text(path, "".join(f"{layer},{fate}\n" for layer, fate in [("layer", "initialised"), *table]))
    return path


def _write_curve(path: Path, rows: list[Row], columns: list[str]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def _save_state(
    folder: Path, net: FCN, optimizer: Optimizer, best: weights.State, progressed: Progressed
) -> None:
    tensors = {
        **{f"net:{name}": tensor for name, tensor in optimizer.state(net).items()},
        **{f"best:{name}": tensor for name, tensor in best.items()},
        **{f"moments:{name}": tensor for name, tensor in optimizer.moments().items()},
    }
    with files.replacing(folder / "state.safetensors") as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            {"progressed": json.dumps(vars(progressed))},
        )


def _resume(folder: Path, net: FCN, optimizer: Optimizer) -> tuple[Progressed, weights.State]:
    """Back to where a kill left this very rung, or to the beginning."""
    path = folder / "state.safetensors"
    if not path.exists():
        return Progressed(), {}
    from safetensors import safe_open

    parts: dict[str, weights.State] = {"net": {}, "best": {}, "moments": {}}
    with safe_open(path, "pt") as file:
        progressed = Progressed(**json.loads(file.metadata()["progressed"]))
        for name in file.keys():  # noqa: SIM118, no mapping
            part, _, rest = name.partition(":")
            parts[part][rest] = file.get_tensor(name)
    optimizer.restore(net, parts["net"], parts["moments"])
    print(f"going on after step {progressed.number}", flush=True)
    return progressed, parts["best"]


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Refuses a second trainer of the same file: two would overwrite each other's work."""
    lock = machine.root() / ".fcn" / "locks" / out.resolve().as_posix().strip("/").replace("/", "-")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"{out} is being trained by process {file.read().strip()}; wait for it, or end it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT, so that the step under way is finished and saved."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
