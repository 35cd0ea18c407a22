"""Trains one rung of the ladder: initializes from the coarser net, trains, validates, saves, and resumes if killed.

A rung is one of FCN-32s, FCN-16s and FCN-8s; all three use the same code. In distributed training every process
runs it, and only the leader writes files.
"""

import csv
import io
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from fcn.data.sampling import Sampler, class_weights
from fcn.data.split import Split, read_scale
from fcn.ladder import BY_STRIDE, GEOMETRIC, SCORES
from fcn.metrics import counting
from fcn.metrics.scores import scores
from fcn.models import State
from fcn.params import Params, Rung
from fcn.pipeline import dvc_lock, dvc_yaml
from fcn.rungs import failure, layer_monitor
from fcn.rungs.checkpoint import Checkpoint, signals
from fcn.rungs.initialization import Initialized, initialize, summary
from fcn.rungs.layer_monitor import LayerMonitor
from fcn.rungs.previews import Preview, preview_steps
from fcn.runtime import distributed, files, locks, machine
from fcn.runtime.distributed import SINGLE, Group
from fcn.runtime.errors import UserError
from fcn.runtime.progress import Progress
from fcn.tracking import stage_run
from fcn.training.average import Average
from fcn.training.optimizer import Optimizer
from fcn.training.steps import Step, freeze, steps
from fcn.weights import model_file

LOSS_EVERY = 10  # steps per point of the loss curve; also how often losses are read from a GPU, since reading waits
MARKS = {10**n for n in range(8)}  # steps after which the sha256 of the weights is recorded, for `fcn verify`


def train_rung(
    *,
    stride: int,
    params: Params,
    data: Path,
    parent: Path,
    published: Path,
    out: Path,
    curves: Path,
    validation: Path,
) -> None:
    """Trains FCN-`stride`s with its section of params.

    data         folder of the packed splits
    parent       model file to start from
    published    folder with the model file of the published net that `init` names, if it names one
    out          model file to write
    curves       folder in which train.csv and val.csv are written
    validation   picture of the predictions during training to write
    """
    stage = BY_STRIDE[stride].stage
    entry, run = dvc_yaml.read(stage, params), stage_run.Run(stage, enabled=False)  # only the leader logs to MLflow
    with distributed.group() as group, ExitStack() as leader_contexts:
        if group.size > params.batch_size:
            raise UserError(f"{group.size} processes cannot share a batch of {params.batch_size} images; start fewer")
        group.check_leader()
        if group.is_leader:
            leader_contexts.enter_context(locks.exclusive(out))
            dvc_lock.protect()
        train = Split(data, "train")
        fingerprint = entry.fingerprint(
            torch=torch.__version__,
            device=torch.cuda.get_device_name() if machine.device().type == "cuda" else "cpu",
            threads=torch.get_num_threads(),
            processes=group.size,
        )
        group.check_agreement(fingerprint)
        checkpoint = Checkpoint(dvc_lock.states() / fingerprint)
        if group.is_leader:
            run = leader_contexts.enter_context(stage_run.stage(stage, params, entry.params, fingerprint))
        initialized = initialize(train, stride, params, parent, published, group)
        if group.is_leader:
            print(summary(stride, params, train, initialized.table, initialized.net.preprocessing), flush=True)
            _log_initialization(run, stage, data, initialized)
            leader_contexts.enter_context(checkpoint.exclusive())
        training = prepare(stride, params, initialized, train, group)
        val = Split(data, "val")
        _train(training, val, checkpoint, run, validation)
        if group.is_leader:
            meta = model_file.Meta(
                architecture=initialized.architecture,
                preprocessing=initialized.net.preprocessing,
                labels=train.labels,
                geometric=train.geometric,
                parent=initialized.parent,
                published=initialized.published,
                iterations=checkpoint.best_number if checkpoint.best else checkpoint.number,
                threads=torch.get_num_threads(),
                processes=group.size,
                digests=checkpoint.digests,
                params=entry.params,
                scale=read_scale(data),
            )
            model_file.save(out, checkpoint.best or training.weights(), meta)
            files.write_text(curves / "train.csv", _csv(checkpoint.train, ["iteration", "lr", "loss"]))
            prefixes = ("", GEOMETRIC) if val.geometric else ("",)
            columns = ["iteration", *(prefix + name for prefix in prefixes for name in SCORES)]
            files.write_text(curves / "val.csv", _csv(checkpoint.val, columns))
            Preview(val).write(checkpoint.previews, validation)
            run.artifact(validation, "figures")
            run.model(out)
            checkpoint.finish(out)


def _log_initialization(run: stage_run.Run, stage: str, data: Path, initialized: Initialized) -> None:
    """Logs parent, data and layer table to MLflow before the first step."""
    if initialized.parent:
        run.tag(parent__sha256=initialized.parent)
    if initialized.published:
        run.tag(published__name=initialized.published.name, published__sha256=initialized.published.sha256)
    run.data(data, train="training", val="validation")
    run.text(
        _csv([{"layer": layer, "initialized": origin} for layer, origin in initialized.table]), f"{stage}/layers.csv"
    )


@dataclass(frozen=True)
class RungTraining:
    """Everything that the steps of a rung need.

    weight   (C,) weight of each class in the loss, or None
    """

    params: Params
    rung: Rung
    initialized: Initialized
    optimizer: Optimizer
    average: Average
    sampler: Sampler
    weight: Tensor | None
    group: Group

    def steps(self, first: int) -> Iterator[Step]:
        """Runs the steps after step `first`."""
        net = self.initialized.net
        for step in steps(
            net,
            self.optimizer,
            self.sampler,
            self.params,
            self.rung,
            weight=self.weight,
            start=first,
            group=self.group,
        ):
            self.average.update(step.number, net, self.optimizer)
            yield step

    def weights(self) -> State:
        """The weights to score and save: the net's in full precision, or their average."""
        return self.average.weights(self.initialized.net, self.optimizer)

    def fail(self, what: str, step: Step, checkpoint: Checkpoint) -> NoReturn:
        """Ends a training whose loss or weights are not finite."""
        failure.stop(
            what,
            stage=BY_STRIDE[self.initialized.net.stride].stage,
            number=step.number,
            lr=step.lr,
            images=[image.name for image in self.sampler.draw(step.number - 1)],
            facts={"losses": checkpoint.losses, "weights": failure.layers(self.optimizer)},
        )


def prepare(stride: int, params: Params, initialized: Initialized, train: Split, group: Group = SINGLE) -> RungTraining:
    """Creates optimizer, average, sampler and class weights for an initialized net."""
    rung = params.rung(stride)
    if rung.freeze == "backbone":
        freeze(initialized.net)
    class_weight = class_weights(train, params.data.class_weights)
    return RungTraining(
        params,
        rung,
        initialized,
        Optimizer(initialized.net, params),
        Average(rung.average, rung.iterations),
        Sampler(train, params.data, seed=params.seed, stride=stride, batch_size=params.batch_size),
        None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32, device=machine.device()),
        group,
    )


def _train(training: RungTraining, val: Split, checkpoint: Checkpoint, run: stage_run.Run, validation: Path) -> None:
    """Trains to the last step. Curves and, with `save: best`, the best weights are collected in `checkpoint`."""
    rung, net, group = training.rung, training.initialized.net, training.group
    checkpoint.load(net, training.optimizer, group)
    training.average.restore(checkpoint.average, net)
    name, size = f"FCN-{net.stride}s", training.params.batch_size
    unread: list[Step] = []
    with (
        Progress(name, rung.iterations, checkpoint.number, size, quiet=not group.is_leader) as bar,
        signals() as received_signal,
    ):
        monitor = LayerMonitor(net, training.optimizer, rung.iterations) if training.params.debug else None
        if monitor:
            monitor.begin(checkpoint.number + 1)
        for step in training.steps(checkpoint.number):
            if monitor:
                _log_layers(monitor, step.number, run)
            unread.append(step)
            number, last = step.number, step.number == rung.iterations
            end, validates = group.maximum(received_signal()), number % rung.validate_every == 0 or last
            if step.loss.is_cuda and number % LOSS_EVERY and number not in MARKS and not (validates or end):
                continue
            for done in unread:
                _record_step(done, training, checkpoint, bar)
            unread.clear()
            if group.is_leader and number in MARKS:
                checkpoint.digests[str(number)] = model_file.digest(training.optimizer.state(net))
            if validates:
                _validate(training, val, checkpoint, run, bar, validation)
            if not (last or end or group.maximum(checkpoint.is_due())):
                continue
            if not failure.finite(training.optimizer.masters):
                training.fail("a weight is not finite", step, checkpoint)
            if group.is_leader:
                _try_to_save(checkpoint, training, bar)
                # Not before the first validation, except at the end: see `_validate`.
                if end or checkpoint.val:
                    run.curve(_since_validation(checkpoint))
            if end:
                bar.write(f"stopped after step {number}; run the same command again to resume")
                raise SystemExit(128 + end)
    if monitor and monitor.rows and group.is_leader:
        path = machine.root() / ".fcn" / "debug" / f"{BY_STRIDE[net.stride].stage}.png"
        layer_monitor.picture(monitor.rows, name, path)
        run.artifact(path, "figures")
        print(f"{name}: gradient flow in {path}", flush=True)


def _log_layers(monitor: LayerMonitor, number: int, run: stage_run.Run) -> None:
    """Logs the statistics of the finished step to MLflow and prepares the next one."""
    if row := monitor.end():
        run.curve([{key if key == "iteration" else f"debug.{key}": value for key, value in row.items()}])
    monitor.begin(number + 1)


def _record_step(step: Step, training: RungTraining, checkpoint: Checkpoint, bar: Progress) -> None:
    """Reads the loss of a step for the progress bar and the loss curve."""
    loss = float(step.loss)
    if not math.isfinite(loss):
        training.fail(f"the loss is {loss}", step, checkpoint)
    bar.step(loss)
    checkpoint.number = step.number
    checkpoint.losses.append(loss)
    if step.number % LOSS_EVERY == 0 or step.number == training.rung.iterations:
        mean = sum(checkpoint.losses) / len(checkpoint.losses)
        checkpoint.train.append({"iteration": step.number, "lr": step.lr, "loss": mean})
        checkpoint.losses.clear()


def _try_to_save(checkpoint: Checkpoint, training: RungTraining, bar: Progress) -> None:
    """Saves a checkpoint. If that fails, as on a full disk, training continues with a warning."""
    try:
        checkpoint.average = training.average.state
        checkpoint.save(training.initialized.net, training.optimizer)
    except OSError as error:
        checkpoint.saved_at = time.monotonic()
        bar.write(f"warning: no checkpoint saved ({error.strerror}); if killed, training resumes from the previous one")


def _validate(
    training: RungTraining, val: Split, checkpoint: Checkpoint, run: stage_run.Run, bar: Progress, validation: Path
) -> None:
    """Scores the net, or its average, on val; with `save: best`, keeps its weights if they are the best so far."""
    net, preview = training.initialized.net, Preview(val)
    with training.average.applied(net, training.optimizer):
        counted = counting.count(net, val, preview.keep, training.group)
    result = {
        prefix + name: value
        for prefix, counts in zip(("", GEOMETRIC), counted, strict=False)
        for name, value in scores(counts.confusion).asdict().items()
    }
    png = preview.gathered(training.group)
    if training.group.is_leader:
        if checkpoint.number in preview_steps(training.rung.iterations, training.rung.validate_every):
            checkpoint.previews[str(checkpoint.number)] = png
        try:
            _log_preview(BY_STRIDE[net.stride].name, png, val, checkpoint, run, validation)
        except OSError as error:  # a full disk must not end the training
            bar.write(f"warning: no preview written after step {checkpoint.number} ({error.strerror})")
    losses = _since_validation(checkpoint)
    checkpoint.val.append({"iteration": checkpoint.number, **result})
    bar.write(f"step {checkpoint.number}: mean IU {result['mean_iu']:.3f} on val")
    # Validation scores first: MLflow's comparison page opens with the metric that was logged first.
    run.curve([{"iteration": checkpoint.number, **{f"val.{name}": value for name, value in result.items()}}])
    run.curve(losses)
    if training.rung.save == "best" and result["mean_iu"] > checkpoint.best_score:
        checkpoint.best_score, checkpoint.best_number = result["mean_iu"], checkpoint.number
        checkpoint.best = {name: tensor.clone() for name, tensor in training.weights().items()}


def _since_validation(checkpoint: Checkpoint) -> list[dict[str, float]]:
    """The points of the training curve since the last validation; MLflow gets those that it does not have."""
    since = checkpoint.val[-1]["iteration"] if checkpoint.val else 0
    return [row for row in checkpoint.train if row["iteration"] > since]


def _log_preview(net: str, png: str, val: Split, checkpoint: Checkpoint, run: stage_run.Run, validation: Path) -> None:
    """Logs the current preview to MLflow and rewrites the picture of the training so far."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"step_{checkpoint.number:07d}.png"
        Preview(val).write({str(checkpoint.number): png}, path)
        run.artifact(path, "validation", shared=False)
    if str(checkpoint.number) in checkpoint.previews:  # these are in the picture, from which `fcn sync` cuts them
        run.images(Preview(val).columns(net, checkpoint.number, png))
    Preview(val).write(checkpoint.previews, validation)


def _csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
