"""One rung of the ladder: start from the coarser net, train, validate, save, and go on after a kill.

FCN-32s, FCN-16s and FCN-8s are this function with other arguments.
"""

import csv
import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fcn import evaluation, files, machine, pipeline, published, tracking, weights
from fcn.data import Split
from fcn.errors import UserError
from fcn.layers import PREPROCESSINGS
from fcn.metrics import scores
from fcn.models import FCN
from fcn.params import Params, Rung
from fcn.progress import Progress
from fcn.resume import Resume, alone, signals
from fcn.sampling import Sampler, class_weights
from fcn.titles import SCORES
from fcn.training import Optimizer, freeze, rate, steps

LOSS_EVERY = 10  # steps in one point of the loss curve


def climb(stage: str, stride: int, params: Params, *, data: Path, parent: Path, out: Path, curves: Path) -> None:
    """Trains FCN-`stride`s as its section of params says.

    data     folder of the packed splits
    parent   model file to start from
    out      model file to write
    curves   folder for train.csv and val.csv
    """
    device = machine.device()
    entry = pipeline.read(stage, params)
    with alone(out), tracking.stage(stage, params, entry.params) as run:
        fingerprint = entry.fingerprint(torch=torch.__version__, device=device.type, threads=torch.get_num_threads())
        train, val = Split(data, "train"), Split(data, "val")
        parent_state, parent_meta = weights.load(parent)
        net = _net(train, stride, params, parent_meta)
        init, origin = params.rung(stride).init, files.sha256(parent)
        if init == "parent":
            generator = torch.Generator().manual_seed(params.seed * 64 + stride)
            table = weights.transplant(net, parent_state, init_std=params.model.init_std, generator=generator)
            run.tag(parent__sha256=origin)
        else:
            published.load(net, init)
            table = [(layer, init) for layer in weights.layers(net.state_dict())]
        print(_summary(stride, params, train, table), flush=True)
        run.data(data, "train", "training")
        run.data(data, "val", "validation")
        run.tag(fingerprint=fingerprint)
        run.text(_csv([{"layer": layer, "initialised": fate} for layer, fate in table]), f"{stage}/layers.csv")
        net.to(device).to(memory_format=torch.channels_last)
        resume = Resume(machine.root() / ".fcn" / "states" / fingerprint)
        with resume.turn():
            optimizer = _train(net, train, val, params, stride, resume, run)
            meta = weights.Meta(
                architecture=_architecture(train, stride, params),
                preprocessing=net.preprocessing,
                labels=train.labels,
                parent=origin if init == "parent" else None,
                published=None if init == "parent" else init,
                iterations=resume.best_number if resume.best else resume.number,
                threads=torch.get_num_threads(),
                params=entry.params,
            )
            weights.save(out, resume.best or optimizer.state(net), meta)
            files.write_text(curves / "train.csv", _csv(resume.train, ["iteration", "lr", "loss"]))
            files.write_text(curves / "val.csv", _csv(resume.val, ["iteration", *SCORES]))
            run.tag(model__sha256=files.sha256(out), model__path=out.as_posix())
            resume.done(net, optimizer)


def _train(
    net: FCN, train: Split, val: Split, params: Params, stride: int, resume: Resume, run: tracking.Run
) -> Optimizer:
    """Takes the net to the rung's end; the curves, and the best weights if those are kept, are in `resume`."""
    rung, device = params.rung(stride), next(net.parameters()).device
    if rung.freeze == "backbone":
        freeze(net)
    optimizer = Optimizer(net, params)
    resume.load(net, optimizer)
    given = class_weights(train, params.data.class_weights)
    weight = None if given is None else torch.tensor(given, dtype=torch.float32, device=device)
    sampler = Sampler(train, params.data, seed=params.seed, stride=stride, batch_size=params.batch_size)
    with Progress(f"FCN-{stride}s", rung.iterations, resume.number, params.batch_size) as bar, signals() as stop:
        for step in steps(net, optimizer, sampler, params, rung, weight=weight, start=resume.number):
            loss = float(step.loss)
            if not math.isfinite(loss):
                raise UserError(
                    f"the loss is {loss} at step {step.number} (lr {step.lr:.3g}, images "
                    f"{', '.join(step.images)}); a lower lr may help"
                )
            bar.step(loss)
            resume.number = step.number
            resume.losses.append(loss)
            last = step.number == rung.iterations
            if step.number % LOSS_EVERY == 0 or last:
                mean = sum(resume.losses) / len(resume.losses)
                resume.train.append({"iteration": step.number, "lr": step.lr, "loss": mean})
                resume.losses.clear()
            if step.number % rung.validate_every == 0 or last:
                _validate(net, val, optimizer, rung, resume, run, bar)
            if stop:
                resume.save(net, optimizer)
                raise SystemExit(128 + stop[0])
            if resume.is_due():
                _save_if_there_is_room(resume, net, optimizer, bar)
    return optimizer


def _save_if_there_is_room(resume: Resume, net: FCN, optimizer: Optimizer, bar: Progress) -> None:
    """A state that cannot be saved costs what a kill would lose, not the training."""
    try:
        resume.save(net, optimizer)
    except OSError as error:
        resume.saved_at = time.monotonic()
        bar.say(f"warning: no state saved ({error.strerror}); a kill would cost what follows {resume.path}")


def _validate(
    net: FCN, val: Split, optimizer: Optimizer, rung: Rung, resume: Resume, run: tracking.Run, bar: Progress
) -> None:
    """Scores the net on val, and keeps its weights if they are the best and that is what is saved."""
    result = scores(evaluation.count(net, val)).asdict()
    since = resume.val[-1]["iteration"] if resume.val else 0
    resume.val.append({"iteration": resume.number, **result})
    bar.say(f"step {resume.number}: mean IU {result['mean_iu']:.3f} on val")
    run.curve([row for row in resume.train if row["iteration"] > since])
    run.curve([{"iteration": resume.number, **{f"val.{name}": value for name, value in result.items()}}])
    if rung.save == "best" and result["mean_iu"] > resume.best_score:
        resume.best_score, resume.best_number = result["mean_iu"], resume.number
        resume.best = {name: tensor.clone() for name, tensor in optimizer.state(net).items()}


def _net(train: Split, stride: int, params: Params, parent: weights.Meta) -> FCN:
    wanted = PREPROCESSINGS[params.model.preprocessing]
    if params.rung(stride).init == "parent" and parent.preprocessing != wanted:
        raise UserError(
            f"the parent's weights expect {parent.preprocessing}, model.preprocessing "
            f"{params.model.preprocessing!r} is {wanted}; they must agree"
        )
    net = FCN(**_architecture(train, stride, params), preprocessing=wanted)
    if net.backbone.norm and params.rung(stride).accumulate > 1:
        raise UserError(
            "batch norm takes its statistics over one pass, so accumulation changes them; set accumulate: 1"
        )
    if "fc" in net.backbone.norm and params.batch_size == 1 and max(_size(train, params)) <= 32:
        raise UserError("batch norm needs more than the one value of fc6 here; set a batch_size of 2 or larger images")
    return net


def _size(train: Split, params: Params) -> tuple[int, int]:
    """Height and width of what a step sees, in pixels; of the first image if they differ."""
    if params.data.crop == "none":
        return train.size(0)
    width, height = map(int, params.data.crop.split("x"))
    return height, width


def _architecture(train: Split, stride: int, params: Params) -> dict[str, Any]:
    return {
        "num_classes": len(train.labels.names),
        "stride": stride,
        "backbone": params.model.backbone,
        "at_once": params.model.at_once and stride == 8,
        "pad": params.model.pad,
        "upsampling": params.model.upsampling,
        "dropout": params.model.dropout,
    }


def _summary(stride: int, params: Params, train: Split, table: list[tuple[str, str]]) -> str:
    """What is trained, at which rate in both units, since one alone means nothing, and where each layer comes from."""
    rung = params.rung(stride)
    height, width = _size(train, params)
    pixels = height * width * params.batch_size
    lines = [
        f"FCN-{stride}s: {rung.iterations} steps of {params.batch_size} images, {params.optimizer}, {params.precision}"
    ]
    if not rung.iterations:
        lines = [f"FCN-{stride}s: surgery only, no steps"]
    elif params.optimizer == "sgd":
        lr = rate(rung, params.lr, 1)
        both = {"sum": ("summed", lr * pixels, "mean"), "mean": ("mean", lr / pixels, "sum")}
        here, other, there = both[params.loss]
        where = f"at {height}×{width}, momentum {params.momentum:g}"
        lines.append(f"lr {lr:.3g} on the {here} loss = {other:.2g} on the {there} {where}")
    else:
        lr = rate(rung, params.lr, 1)
        lines.append(f"lr {lr:.3g} on the {params.loss} loss; Adam's step hardly depends on which")
    for what in dict.fromkeys(fate for _, fate in table):
        lines.append(f"{what:8} {' '.join(layer for layer, fate in table if fate == what)}")
    return "\n".join(lines)


def _csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
