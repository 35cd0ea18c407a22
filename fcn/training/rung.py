"""One rung of the ladder: start from the coarser net, train, validate, save, and go on after a kill.

FCN-32s, FCN-16s and FCN-8s are this function with other arguments. In a group of processes each runs it;
the leader alone writes.
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
from fcn.ladder import SCORES
from fcn.metrics import counting
from fcn.metrics.scores import scores
from fcn.models import weights
from fcn.params import Params, Rung
from fcn.pipeline import dvc_lock, dvc_yaml
from fcn.runtime import distributed, files, machine
from fcn.runtime.distributed import ALONE, Group
from fcn.runtime.errors import UserError
from fcn.runtime.progress import Progress
from fcn.tracking import stage_run
from fcn.training import debug, failure
from fcn.training.checkpoint import Resume, signals
from fcn.training.initialization import Start, start, summary
from fcn.training.optimizer import Optimizer
from fcn.training.previews import Preview, shown
from fcn.training.steps import Step, freeze, steps

LOSS_EVERY = 10  # steps in one point of the loss curve, and between two looks at a GPU, which is not to be waited for
MARKS = {10**n for n in range(8)}  # steps after which the weights' digest is kept, for `fcn verify`


def climb(
    stage: str,
    stride: int,
    params: Params,
    *,
    data: Path,
    parent: Path,
    published: Path,
    out: Path,
    curves: Path,
    validation: Path,
) -> None:
    """Trains FCN-`stride`s as its section of params says.

    data         folder of the packed splits
    parent       model file to start from
    published    folder of the published net that `init` names, if it names one
    out          model file to write
    curves       folder for train.csv and val.csv
    validation   picture of predictions during training to write
    """
    entry, run = dvc_yaml.read(stage, params), stage_run.Run(stage, alive=False)  # of all but the leader
    with distributed.group() as group, ExitStack() as leading:
        if group.size > params.batch_size:
            raise UserError(f"{group.size} processes cannot share batches of {params.batch_size}; start fewer")
        if group.leads:
            leading.enter_context(files.alone(out))
            dvc_lock.begin()
        train = Split(data, "train")
        fingerprint = entry.fingerprint(
            torch=torch.__version__,
            device=torch.cuda.get_device_name() if machine.device().type == "cuda" else "cpu",
            threads=torch.get_num_threads(),
            processes=group.size,
        )
        group.agree(fingerprint)
        resume = Resume(dvc_lock.states() / fingerprint)
        if group.leads:
            run = leading.enter_context(stage_run.stage(stage, params, entry.params, fingerprint))
        begun = start(train, stride, params, parent, published, group)
        if group.leads:
            print(summary(stride, params, train, begun.table, begun.net.preprocessing), flush=True)
            _introduce(run, stage, data, begun)
            leading.enter_context(resume.turn())
        work = prepare(stage, stride, params, begun, train, group)
        val = Split(data, "val")
        _train(work, val, resume, run, validation)
        if group.leads:
            meta = weights.Meta(
                architecture=begun.architecture,
                preprocessing=begun.net.preprocessing,
                labels=train.labels,
                parent=begun.parent,
                published=begun.published,
                iterations=resume.best_number if resume.best else resume.number,
                threads=torch.get_num_threads(),
                processes=group.size,
                digests=resume.digests,
                params=entry.params,
                scale=read_scale(data),
            )
            weights.save(out, resume.best or work.optimizer.state(begun.net), meta)
            files.write_text(curves / "train.csv", _csv(resume.train, ["iteration", "lr", "loss"]))
            files.write_text(curves / "val.csv", _csv(resume.val, ["iteration", *SCORES]))
            Preview(val).write(resume.seen, validation)
            run.artifact(validation, "figures")
            run.tag(model__sha256=files.sha256(out), model__path=out.as_posix())
            resume.done(out)


def _introduce(run: stage_run.Run, stage: str, data: Path, begun: Start) -> None:
    """What MLflow knows of a rung before its first step."""
    if begun.parent:
        run.tag(parent__sha256=begun.parent)
    if begun.published:
        run.tag(published__name=begun.published.name, published__sha256=begun.published.sha256)
    run.data(data, "train", "training")
    run.data(data, "val", "validation")
    run.text(_csv([{"layer": layer, "initialised": fate} for layer, fate in begun.table]), f"{stage}/layers.csv")


@dataclass(frozen=True)
class Work:
    """What a rung's steps work with.

    weight   (C,) of each class in the loss, or None
    """

    stage: str
    params: Params
    rung: Rung
    begun: Start
    optimizer: Optimizer
    sampler: Sampler
    weight: Tensor | None
    group: Group

    def steps(self, first: int) -> Iterator[Step]:
        """The rung's steps after step `first`."""
        return steps(
            self.begun.net,
            self.optimizer,
            self.sampler,
            self.params,
            self.rung,
            weight=self.weight,
            start=first,
            group=self.group,
        )

    def fail(self, what: str, step: Step, resume: Resume) -> NoReturn:
        """Ends a training that came to no number."""
        failure.stop(
            what,
            stage=self.stage,
            number=step.number,
            lr=step.lr,
            images=[image.name for image in self.sampler.draw(step.number - 1)],
            facts={"losses": resume.losses, "weights": failure.layers(self.optimizer)},
        )


def prepare(stage: str, stride: int, params: Params, begun: Start, train: Split, group: Group = ALONE) -> Work:
    """Optimiser, sampler and class weights for a net that has its first weights."""
    rung = params.rung(stride)
    if rung.freeze == "backbone":
        freeze(begun.net)
    given = class_weights(train, params.data.class_weights)
    return Work(
        stage,
        params,
        rung,
        begun,
        Optimizer(begun.net, params),
        Sampler(train, params.data, seed=params.seed, stride=stride, batch_size=params.batch_size),
        None if given is None else torch.tensor(given, dtype=torch.float32, device=machine.device()),
        group,
    )


def _train(work: Work, val: Split, resume: Resume, run: stage_run.Run, validation: Path) -> None:
    """Takes the net to the rung's end; the curves, and the best weights if those are kept, are in `resume`."""
    rung, net, group = work.rung, work.begun.net, work.group
    resume.load(net, work.optimizer, group)
    name, size = f"FCN-{net.stride}s", work.params.batch_size
    unread: list[Step] = []
    with Progress(name, rung.iterations, resume.number, size, quiet=not group.leads) as bar, signals() as ended:
        watch = debug.Watch(net, work.optimizer, rung.iterations) if work.params.debug else None
        if watch:
            watch.begin(resume.number + 1)
        for step in work.steps(resume.number):
            if watch:
                _look(watch, step.number, run)
            unread.append(step)
            number, last = step.number, step.number == rung.iterations
            end, validates = group.largest(ended()), number % rung.validate_every == 0 or last
            if step.loss.is_cuda and number % LOSS_EVERY and number not in MARKS and not (validates or end):
                continue
            for done in unread:
                _note(done, work, resume, bar)
            unread.clear()
            if group.leads and number in MARKS:
                resume.digests[str(number)] = weights.digest(work.optimizer.state(net))
            if validates:
                _validate(work, val, resume, run, bar, validation)
            if not (last or end or group.largest(resume.is_due())):
                continue
            if not failure.finite(work.optimizer.masters):
                work.fail("a weight is no number", step, resume)
            if group.leads:
                _save_if_there_is_room(resume, work, bar)
            if end:
                bar.say(f"ended after step {number}; the same command goes on from there")
                raise SystemExit(128 + end)
    if watch and watch.rows and group.leads:
        path = machine.root() / ".fcn" / "debug" / f"{work.stage}.png"
        debug.picture(watch.rows, name, path)
        run.artifact(path, "figures")
        print(f"{name}: gradient flow in {path}", flush=True)


def _look(watch: debug.Watch, number: int, run: stage_run.Run) -> None:
    """What was seen of the step that is done goes to MLflow; the next one is prepared."""
    if row := watch.end():
        run.curve([{key if key == "iteration" else f"debug.{key}": value for key, value in row.items()}])
    watch.begin(number + 1)


def _note(step: Step, work: Work, resume: Resume, bar: Progress) -> None:
    """Reads a step's loss, for the bar and for the curve."""
    loss = float(step.loss)
    if not math.isfinite(loss):
        work.fail(f"the loss is {loss}", step, resume)
    bar.step(loss)
    resume.number = step.number
    resume.losses.append(loss)
    if step.number % LOSS_EVERY == 0 or step.number == work.rung.iterations:
        mean = sum(resume.losses) / len(resume.losses)
        resume.train.append({"iteration": step.number, "lr": step.lr, "loss": mean})
        resume.losses.clear()


def _save_if_there_is_room(resume: Resume, work: Work, bar: Progress) -> None:
    """A state that cannot be saved costs what a kill would lose, not the training."""
    try:
        resume.save(work.begun.net, work.optimizer)
    except OSError as error:
        resume.saved_at = time.monotonic()
        bar.say(f"warning: no state saved ({error.strerror}); a kill would cost the steps since the last one")


def _validate(work: Work, val: Split, resume: Resume, run: stage_run.Run, bar: Progress, validation: Path) -> None:
    """Scores the net on val, and keeps its weights if they are the best and that is what is saved."""
    net, preview = work.begun.net, Preview(val)
    result = scores(counting.count(net, val, preview.keep, work.group)).asdict()
    png = preview.gathered(work.group)
    if work.group.leads:
        if resume.number in shown(work.rung.iterations, work.rung.validate_every):
            resume.seen[str(resume.number)] = png
        try:
            _show(png, val, resume, run, validation)
        except OSError as error:  # a full disk: not worth the training
            bar.say(f"warning: no picture of what is predicted after step {resume.number} ({error.strerror})")
    since = resume.val[-1]["iteration"] if resume.val else 0
    resume.val.append({"iteration": resume.number, **result})
    bar.say(f"step {resume.number}: mean IU {result['mean_iu']:.3f} on val")
    # MLflow's page for a comparison opens on the value that came first.
    run.curve([{"iteration": resume.number, **{f"val.{name}": value for name, value in result.items()}}])
    run.curve([row for row in resume.train if row["iteration"] > since])
    if work.rung.save == "best" and result["mean_iu"] > resume.best_score:
        resume.best_score, resume.best_number = result["mean_iu"], resume.number
        resume.best = {name: tensor.clone() for name, tensor in work.optimizer.state(net).items()}


def _show(png: str, val: Split, resume: Resume, run: stage_run.Run, validation: Path) -> None:
    """What is predicted of a few images now, for MLflow; and the picture of the training so far."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"step_{resume.number:07d}.png"
        Preview(val).write({str(resume.number): png}, path)
        run.artifact(path, "validation", shared=False)
    Preview(val).write(resume.seen, validation)


def _csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
