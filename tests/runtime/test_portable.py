"""`arithmetic: portable`: the same bits on this CPU, on one core and on another CPU that QEMU emulates."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from fcn.params import Params
from fcn.rungs import compatibility
from fcn.runtime import machine
from fcn.runtime.errors import UserError

STEP = """
import sys
from pathlib import Path
from fcn import params
from fcn.runtime import machine
experiment = params.load(Path(sys.argv[1]))
machine.prepare(experiment.arithmetic)
import torch
from fcn.data.split import Split
from fcn.models import FCN
from fcn.data.sampling import Sampler
from fcn.training import steps
from fcn.training.optimizer import Optimizer
from fcn.weights import model_file
train = Split(Path(sys.argv[2]), "train")
torch.manual_seed(0)
net = FCN(len(train.labels.names), 8, "slim", pad="same").to(memory_format=torch.channels_last)
optimizer = Optimizer(net, experiment)
sampler = Sampler(train, experiment.data, seed=1, stride=8, batch_size=experiment.batch_size)
list(steps.steps(net, optimizer, sampler, experiment, experiment.train.model_copy(update={"iterations": 1})))
print(torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), model_file.digest(optimizer.state(net)))
"""
HASWELL = (str(shutil.which("qemu-x86_64")), "-cpu", "Haswell")


def step(recipe: Path, packed: Path, *prefix: str) -> list[str]:
    """Threads, instruction set and digest of the weights after one step in a new process."""
    environment = {k: v for k, v in os.environ.items() if k not in machine.PORTABLE}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", STEP, str(recipe), str(packed)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout.split()


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    """The params file of the scenes, with one arithmetic or the other."""

    def written(arithmetic: str) -> Path:
        text = (ROOT / "recipes" / "scenes.yaml").read_text()
        path = tmp_path / f"{arithmetic}.yaml"
        path.write_text(text.replace("arithmetic: native", f"arithmetic: {arithmetic}"))
        return path

    return written


@pytest.mark.slow
def test_a_step_gives_the_same_bits_on_one_core_and_on_another_vendors_cpu_without_avx512(
    recipe: Callable[[str], Path], packed: Path
) -> None:
    here = step(recipe("portable"), packed)
    assert here[:2] == ["4", "AVX2"]
    assert step(recipe("portable"), packed, "taskset", "--cpu-list", "0") == here
    assert step(recipe("portable"), packed, *HASWELL) == here


@pytest.mark.slow
def test_native_arithmetic_differs_on_that_cpu_so_that_the_comparison_shows_something(
    recipe: Callable[[str], Path], packed: Path
) -> None:
    here, there = step(recipe("native"), packed), step(recipe("native"), packed, *HASWELL)
    assert here[0] == there[0]  # threads
    assert here[2] != there[2]


def test_portable_is_refused_with_bf16(small: Callable[..., Params]) -> None:
    compatibility.check_arithmetic(small(arithmetic="portable"))
    with pytest.raises(UserError, match="arithmetic: portable needs precision: fp32"):
        compatibility.check_arithmetic(small(arithmetic="portable", precision="bf16"))


def test_portable_is_refused_with_several_processes(small: Callable[..., Params]) -> None:
    compatibility.check_arithmetic(small(), 2)
    with pytest.raises(UserError, match="arithmetic: portable needs one process"):
        compatibility.check_arithmetic(small(arithmetic="portable"), 2)


def test_portable_cannot_be_chosen_once_torch_has_read_its_environment() -> None:
    assert torch.get_num_threads()
    with pytest.raises(RuntimeError, match="imported"):
        machine.prepare("portable")


@pytest.mark.parametrize(
    ("prelude", "line"),
    [
        ("import os; os.environ['FCN_DEVICE'] = 'cuda'", "unset FCN_DEVICE"),
        ("import platform; platform.machine = lambda: 'aarch64'", "needs Linux on an x86-64 CPU with AVX2"),
    ],
)
def test_portable_is_refused_elsewhere_than_on_such_a_cpu(prelude: str, line: str) -> None:
    code = f"{prelude}\nfrom fcn.runtime import machine\nmachine.prepare('portable')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert line in done.stderr
