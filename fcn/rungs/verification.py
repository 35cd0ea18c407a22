"""Verifies that training is bit-for-bit reproducible by running the first steps of a rung again."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from fcn.data.split import Split
from fcn.ladder import BY_STRIDE
from fcn.params import Params
from fcn.pipeline import dvc_yaml
from fcn.rungs import rung
from fcn.rungs.initialization import initialize
from fcn.runtime import files
from fcn.runtime.errors import UserError
from fcn.weights import model_file


def verify(params: Params, stride: int, steps: int, folder: Path, data: Path) -> Iterator[str]:
    """Runs the first steps of FCN-`stride`s again and compares the weights with the recorded digests.

    steps    maximum number of steps
    folder   of the model files
    data     folder of the packed splits
    yields   one line per digest that matches
    raises   UserError if a digest differs, or if there is none to compare
    """
    net = BY_STRIDE[stride]
    path, parent = folder / f"{net.name}.safetensors", folder / f"{net.parent}.safetensors"
    published = folder / "published" / net.name
    _, meta = model_file.load(path)
    recorded = {int(number): digest for number, digest in meta.digests.items() if int(number) <= steps}
    _check_same_training(path, parent, published, meta, params, stride)
    if not recorded:
        available = ", ".join(meta.digests) or "none"
        raise UserError(f"{path} has no digest within its first {steps} steps; it has digests of steps {available}")
    train = Split(data, "train")
    training = rung.prepare(stride, params, initialize(train, stride, params, parent, published), train)
    for step in islice(training.steps(0), max(recorded)):
        if step.number in recorded:
            digest = model_file.digest(training.optimizer.state(training.initialized.net))
            if digest != recorded[step.number]:
                raise UserError(
                    f"FCN-{stride}s after step {step.number}: sha256 {digest[:12]}…, "
                    f"{path} has {recorded[step.number][:12]}…; "
                    "other versions, another kind of processor or another device may round differently"
                )
            yield f"FCN-{stride}s after step {step.number}: sha256 {digest[:12]}…, as recorded"


def _check_same_training(
    path: Path, parent: Path, published: Path, meta: model_file.Meta, params: Params, stride: int
) -> None:
    """Checks that params, parent, threads and processes are those of the recorded training."""
    entry = dvc_yaml.read(BY_STRIDE[stride].stage, params)
    if meta.params != entry.params:
        changed = [key for key, value in entry.params.items() if meta.params.get(key) != value]
        raise UserError(
            f"{path} was trained with different {', '.join(changed)}; run `dvc repro`, or restore params.yaml"
        )
    if meta.parent is not None and meta.parent != files.sha256(parent):
        raise UserError(f"{path} did not start from {parent} as it is now; run `dvc repro`")
    init = params.rung(stride).init
    if meta.published and model_file.facts(published / f"{init}.safetensors").published != meta.published:
        raise UserError(f"{path} did not start from {init} as it is now; run `dvc repro`")
    if meta.threads != torch.get_num_threads() or meta.processes != 1:
        raise UserError(
            f"{path} was trained by {meta.processes} processes of {meta.threads} threads, which changes bits; "
            f"set OMP_NUM_THREADS={meta.threads}"
        )
